"""What the doctor asks Redis, and how it judges the answers."""

from collections.abc import Iterator, Mapping
from typing import Any

from ops.doctor.line import Line, ok, one_of, unknown, wrong
from ops.doctor.site import Site, place_of, redis_away, timed

LEAST_REDIS = (6, 2)
LEAST_VALKEY = (7, 2)
FULL = 0.9
KEEPS = "noeviction"
SHORT = 8


def look_at_redis(site: Site) -> Iterator[Line]:
    """Say what Redis is, what it does when its memory is full, and its generation."""
    where = place_of(site.settings.redis_url.get_secret_value())
    with redis_away():
        _, how = timed(site.redis.ping)
        try:
            info = site.redis.info()
        except Exception as error:
            if "NOPERM" not in str(error):
                raise
            yield wrong(
                "redis",
                f"at {where}, {how}, does not let us ask INFO: the entitlement cache stays off",
                "allow the user of HOOKLINE_REDIS_URL the command INFO",
            )
            return
    yield from judge_redis(info, f"at {where} (HOOKLINE_REDIS_URL), {how}")


def judge_redis(info: Mapping[str, Any], how: str) -> Iterator[Line]:
    """Judge what INFO says."""
    name, version, least = _version(info)
    fact = f"{name} {version} {how}, generation {str(info['run_id'])[:SHORT]}"
    if _numbers(version) < least:
        yield wrong(
            "redis",
            f"{fact}, is older than {'.'.join(map(str, least))}",
            "upgrade it: Redis 6.2, Valkey 7.2 or newer",
        )
    elif info.get("role") != "master":
        yield wrong(
            "redis",
            f"{fact}, is a replica, which takes no writes",
            "name the primary in HOOKLINE_REDIS_URL, or sentinels that do",
        )
    elif "cluster" in {info.get("redis_mode"), info.get("server_mode")}:
        yield wrong(
            "redis",
            f"{fact}, is a cluster",
            "name a single server or sentinels in HOOKLINE_REDIS_URL",
        )
    else:
        yield ok("redis", f"{fact}, a primary")
    yield from _judge_memory(info)


def _judge_memory(info: Mapping[str, Any]) -> Iterator[Line]:
    policy = info.get("maxmemory_policy")
    if policy is None:
        yield unknown("memory", "INFO does not tell the memory policy")
        return
    used, most = int(info["used_memory"]), int(info.get("maxmemory", 0))
    fact = f"{_mib(used)} of {_mib(most) if most else 'no limit'}"
    problems = []
    if policy != KEEPS:
        problems.append(
            (
                f"maxmemory-policy is {policy}: marks and locks in use may be evicted",
                f"CONFIG SET maxmemory-policy {KEEPS}, and the same in its configuration",
            )
        )
    if most and used > FULL * most:
        what = f"memory is nearly full, {fact}: then it stores nothing, and PostgreSQL is asked"
        problems.append((what, "raise maxmemory"))
    yield from one_of("memory", problems, f"maxmemory-policy {KEEPS}, {fact}")


def _version(info: Mapping[str, Any]) -> tuple[str, str, tuple[int, ...]]:
    if "valkey_version" in info:
        return "Valkey", str(info["valkey_version"]), LEAST_VALKEY
    return "Redis", str(info.get("redis_version", "0")), LEAST_REDIS


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"
