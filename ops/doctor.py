"""`hookline doctor --check`: the invariants of a deployment, at rest or at work."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from redis import Redis, RedisError
from rich.console import Console
from rich.table import Table

from consumer.storage.engine import make_engine
from ops.invariants.cache import connect
from ops.invariants.checker import Result, check, summarize
from ops.invariants.event_log import AwayError, EventLog
from ops.invariants.subject import Process, Subject
from ops.usage import UsageError
from schemas.access import why_redis_refuses
from schemas.plans import load_plans
from schemas.settings import DoctorSettings

EXIT_BROKEN = 3
KEPT_FINDINGS = 1_000
"""Of each invariant: a broken table of millions must not fill the memory."""

SHOWN_FINDINGS = 20
STYLES = {"holds": "green", "broken": "bold red", "not checked": "dim"}


@dataclass(frozen=True, slots=True)
class Options:
    """What a person asked the doctor for."""

    records: int
    rest_seconds: float
    admin_urls: tuple[str, ...]
    outputs: tuple[Path, ...]
    as_json: bool


def run(load: Callable[[], DoctorSettings], options: Options, *, is_check: bool) -> int:
    """Check every invariant that can be, print what was found, return the exit code; blocks.

    Reads only, in short transactions. Raises UsageError, SettingsError or PlansError; AwayError
    or sqlalchemy's DBAPIError where a server does not answer.
    """
    if not is_check:
        raise UsageError(
            "say `hookline doctor --check`: it checks that what stands in Kafka, PostgreSQL and "
            "Redis fits together, and does nothing else yet"
        )
    for path in options.outputs:
        if not path.is_file():
            raise UsageError(f"--output {path}: there is no such file")
    with _open_subject(load(), options) as subject:
        results = _check(subject)
    if options.as_json:
        print(json.dumps(to_document(results), indent=2))  # noqa: T201 - the document asked for
    else:
        _print(Console(highlight=False), results)
    return EXIT_BROKEN if any(result.state == "broken" for result in results) else 0


def _check(subject: Subject) -> list[Result]:
    with Console(stderr=True).status("checking"), _redis_away():
        return check(subject, most=KEPT_FINDINGS)


def _connect(settings: DoctorSettings) -> "Redis":
    with _redis_away():
        return connect(settings.redis_url.get_secret_value())


@contextmanager
def _redis_away() -> Iterator[None]:
    try:
        yield
    except RedisError as error:
        why = why_redis_refuses(str(error)) or f"Redis does not answer ({type(error).__name__})"
        raise AwayError(why) from error


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
    """Return the passwords that no output may hold."""
    urls = [settings.database_url.get_secret_value(), settings.redis_url.get_secret_value()]
    found = [unquote(urlsplit(url).password or "") for url in urls]
    if settings.kafka_sasl_password is not None:
        found.append(settings.kafka_sasl_password.get_secret_value())
    return found


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


def _print(console: Console, results: Sequence[Result]) -> None:
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
