"""The processes behind their admin ports: ready or not, their way to Redis, the other mode."""

import re
from collections.abc import Iterator
from itertools import count

import httpx2 as httpx

from ops.doctor.line import Line, ok, unknown, wrong
from ops.doctor.site import Site
from ops.embedded.ports import HOST
from schemas.settings import DoctorSettings

ANSWER_SECONDS = 5.0
_KIND = re.compile(r"^# TYPE hookline_(ingest|consumer|gatekeeper)_", re.MULTILINE)
_REQUESTS = re.compile(
    r'^hookline_ingest_requests_total\{answer="200",reason="(\w+)"\} (\S+)$', re.MULTILINE
)


def look_at_processes(site: Site) -> Iterator[Line]:
    """Ask the named admin ports, or else those that the settings give on this machine."""
    mode = site.settings.livemode
    for url in site.admin_urls:
        yield from look_at_process(url.rstrip("/"), mode, is_named=True)
    if site.admin_urls:
        return
    found = list(_look_here(site.settings))
    yield from found
    if not found:
        yield unknown("processes", "none answers on this machine; --admin URL names others")


def _look_here(settings: DoctorSettings) -> Iterator[Line]:
    """Ask the ports of this machine; those of consumers count upwards, as `up` gives them."""
    for port in (settings.ingest_admin_port, settings.gatekeeper_admin_port):
        yield from look_at_process(f"http://{HOST}:{port}", settings.livemode, is_named=False)
    for port in count(settings.consumer_admin_port):
        lines = list(look_at_process(f"http://{HOST}:{port}", settings.livemode, is_named=False))
        if [line.about for line in lines] != ["consumer"]:
            return
        yield from lines


def look_at_process(url: str, mode: str | None, *, is_named: bool) -> Iterator[Line]:
    """Ask one process; one that is not named may be elsewhere."""
    try:
        page = httpx.get(f"{url}/metrics", timeout=ANSWER_SECONDS).text
        checks = httpx.get(f"{url}/readyz", timeout=ANSWER_SECONDS).json()["checks"]
    except (httpx.HTTPError, ValueError, KeyError):
        if is_named:
            yield wrong("process", f"{url} does not answer", "start it, or mend --admin")
        return
    kind = _KIND.search(page)
    about = kind[1] if kind else "process"
    yield judge_process(about, url, checks)
    if about == "ingest" and mode is not None:
        yield from judge_requests(dict(_REQUESTS.findall(page)), mode)


def judge_process(about: str, url: str, checks: dict[str, str]) -> Line:
    """Judge what `/readyz` says of each dependency."""
    problems = [f"{name}: {says}" for name, says in checks.items() if says != "ok"]
    if problems:
        return wrong(about, f"{url} says {'; '.join(problems)}", "mend what it names, see its log")
    breaker = ", Redis' breaker closed" if "redis" in checks else ""
    return ok(about, f"{url} is ready: {', '.join(checks)}{breaker}")


def judge_requests(answered: dict[str, str], mode: str) -> Iterator[Line]:
    """Notice an ingest that ignores all that comes, as of the other mode."""
    others, taken = float(answered.get("other_mode", 0)), float(answered.get("accepted", 0))
    if others and not taken:
        other = "test" if mode == "live" else "live"
        yield wrong(
            "mode",
            f"all {others:,.0f} events that came since ingest started are of {other} mode, and "
            f"HOOKLINE_LIVEMODE is {mode}: none was taken",
            f"set HOOKLINE_LIVEMODE={other}, or add the endpoint in Stripe's {mode} mode",
        )
