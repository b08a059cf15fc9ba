"""Secrets by their position, held against the newest records; and the mode of those records."""

from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256

from ops.counting import count
from ops.doctor.line import Line, ok, unknown, wrong
from ops.doctor.sample import Sample
from ops.doctor.site import Site
from ops.explain.words import distance
from schemas.settings import DoctorSettings

FINGERPRINT = 8
MODES = {True: "live", False: "test"}


def fingerprint(secret: str) -> str:
    """Return what tells two secrets apart and gives neither away: `printf %s … | sha256sum`."""
    return sha256(secret.encode()).hexdigest()[:FINGERPRINT]


def look_at_secrets(site: Site) -> Iterator[Line]:
    """Say of each secret by its position whether Stripe signs with it."""
    settings = site.settings
    if not settings.webhook_secrets:
        yield unknown("secrets", "HOOKLINE_WEBHOOK_SECRETS is not set here")
        return
    yield from judge_secrets(settings, site.sample, datetime.fromtimestamp(site.clock(), UTC))


def judge_secrets(settings: DoctorSettings, sample: Sample, now: datetime) -> Iterator[Line]:
    """Hold each secret against the newest records."""
    for place, secret in enumerate(settings.known_secrets()):
        yield _judge_secret(settings, place, fingerprint(secret), sample, now)
    if sample.unsigned:
        some = f"{len(sample.unsigned):,} of the last {count(sample.records, 'record')}"
        yield wrong(
            "signatures",
            f"{some} are signed with none of these secrets, {sample.unsigned[-1]} for one",
            "put the secret that was dropped into HOOKLINE_RETIRED_SECRETS; what nobody signed is "
            "a dead letter",
        )


def _judge_secret(
    settings: DoctorSettings, place: int, print_: str, sample: Sample, now: datetime
) -> Line:
    current = len(settings.webhook_secrets)
    is_retired = place >= current
    number = place - current + 1 if is_retired else place + 1
    about = f"{'retired' if is_retired else 'secret'} {number}"
    known = f"fingerprint {print_}"
    signed = sample.signed[place]
    if not sample.records:
        return unknown(about, f"{known}; no record is there that it could have signed")
    if signed:
        age = distance(sample.newest[place], now)
        part = f"{signed:,} of the last {count(sample.records, 'record')}"
        return ok(about, f"{known}; has signed {part}, the newest {age}")
    never = f"{known}; has signed none of the last {count(sample.records, 'record')}"
    if is_retired:
        return ok(about, f"{never}: it may go once it was dropped 14 days ago")
    return wrong(
        about,
        f"{never}: it is not, or not yet, the endpoint's",
        "take the endpoint's signing secret from Stripe's dashboard, or drop this one from "
        "HOOKLINE_WEBHOOK_SECRETS",
    )


def look_at_mode(site: Site) -> Iterator[Line]:
    """Say whether the records are of the mode that this deployment serves."""
    mode = site.settings.livemode
    if mode is None:
        yield unknown("mode", "HOOKLINE_LIVEMODE is not set here")
        return
    yield judge_mode(mode, site.sample)


def judge_mode(mode: str, sample: Sample) -> Line:
    """Hold the mode against the newest signed records."""
    found = {MODES[is_live]: number for is_live, number in sample.modes.items()}
    others = sum(number for name, number in found.items() if name != mode)
    if others:
        other = next(name for name in found if name != mode)
        return wrong(
            "mode",
            f"{others:,} of the last {count(sample.records, 'record')} are of {other} mode, and "
            f"HOOKLINE_LIVEMODE is {mode}",
            f"set HOOKLINE_LIVEMODE={other}, or give each mode a topic and database of its own",
        )
    if not found:
        return unknown("mode", f"{mode}; no signed record is there that could tell another")
    return ok("mode", f"{mode}, as are the last {count(found[mode], 'signed record')}")
