"""`hookline doctor --check`: the invariants of a deployment, at rest or at work."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from redis import Redis
from rich.console import Console
from rich.table import Table

from consumer.storage.engine import make_engine
from ops.doctor.site import redis_away
from ops.invariants.cache import connect
from ops.invariants.checker import Result, check, summarize
from ops.invariants.event_log import EventLog
from ops.invariants.subject import Process, Subject
from schemas.plans import load_plans
from schemas.settings import DoctorSettings

KEPT_FINDINGS = 1_000
"""Of each invariant: a broken table of millions must not fill the memory."""

SHOWN_FINDINGS = 20
STYLES = {"holds": "green", "broken": "bold red", "not checked": "dim"}


@dataclass(frozen=True, slots=True)
class Options:
    """How the invariants are to be checked."""

    records: int
    rest_seconds: float
    admin_urls: tuple[str, ...]
    outputs: tuple[Path, ...]


def run(settings: DoctorSettings, options: Options) -> list[Result]:
    """Check every invariant that can be; blocks.

    Reads only, in short transactions. Raises PlansError; AwayError or sqlalchemy's DBAPIError
    where a server does not answer.
    """
    with (
        _open_subject(settings, options) as subject,
        Console(stderr=True).status("checking"),
        redis_away(),
    ):
        return check(subject, most=KEPT_FINDINGS)


def _connect(settings: DoctorSettings) -> "Redis":
    with redis_away():
        return connect(settings.redis_url.get_secret_value())


@contextmanager
def _open_subject(settings: DoctorSettings, options: Options) -> Iterator[Subject]:
    log = EventLog(settings.kafka_access(), settings.kafka_topic)
    redis = _connect(settings)
    try:
        yield Subject(
            engine=make_engine(settings, "doctor"),
            plans=load_plans(settings.plans_file),
            grace=timedelta(hours=settings.grace_hours),
            group=settings.kafka_group,
            log=log,
            records=options.records,
            redis=redis,
            processes={url: Process(url.rstrip("/")) for url in options.admin_urls},
            outputs=options.outputs,
            secrets=_secrets(settings),
            rest_seconds=options.rest_seconds,
        )
    finally:
        log.close()
        redis.close()


def _secrets(settings: DoctorSettings) -> list[str]:
    """Return the passwords and secrets that no output may hold."""
    urls = [settings.database_url.get_secret_value(), settings.redis_url.get_secret_value()]
    found = [unquote(urlsplit(url).password or "") for url in urls]
    if settings.kafka_sasl_password is not None:
        found.append(settings.kafka_sasl_password.get_secret_value())
    return found + settings.known_secrets()


def to_document(results: Sequence[Result]) -> dict[str, Any]:
    """Return what `--json` prints; `found` counts the findings that are not named too."""
    return {
        "holds": all(result.state != "broken" for result in results),
        "invariants": [
            {
                "id": result.invariant.id,
                "truth": result.invariant.truth,
                "state": result.state,
                "looked_at" if result.is_checked else "why": result.looked_at,
                "found": result.found,
                "findings": [{"where": f.where, "what": f.what} for f in result.findings],
            }
            for result in results
        ],
    }


def show(console: Console, results: Sequence[Result]) -> None:
    """Print a table of the invariants, and what was found of each."""
    table = Table("", "invariant", "state", "looked at, or why not")
    for result in results:
        state = f"[{STYLES[result.state]}]{result.state}[/]"
        one = result.invariant
        table.add_row(one.id, one.truth, state, result.looked_at)
    console.print(table)
    for result in results:
        for finding in result.findings[:SHOWN_FINDINGS]:
            console.print(str(finding), style="red", markup=False, soft_wrap=True)
        left = result.found - SHOWN_FINDINGS
        if left > 0:
            more = f"{result.invariant.id} and {left:,} more; --json names the first"
            console.print(f"{more} {KEPT_FINDINGS:,}", style="red", soft_wrap=True)
    console.print(summarize(results), style="bold", soft_wrap=True)
