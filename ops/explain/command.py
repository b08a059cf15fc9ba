"""`hookline explain`: reads one customer in one snapshot, explains, prints; stores nothing."""

import json
from collections.abc import Collection
from datetime import UTC, datetime, timedelta

from rich.console import Console

from consumer.storage.engine import make_engine
from consumer.storage.history import snapshot
from ops.explain.document import to_document
from ops.explain.dossier import Dossier, read_dossier
from ops.explain.explanation import explain
from ops.explain.render import render
from ops.explain.views import Question
from ops.usage import UsageError, require_customer
from schemas.plans import load_plans
from schemas.settings import RecallSettings


def run(
    settings: RecallSettings,
    *,
    customer: str,
    as_of: str | None,
    without: Collection[str],
    as_json: bool,
) -> int:
    """Explain one customer and return the exit code, which is 0; a customer never seen, too.

    Blocks. Raises UsageError, PlansError or sqlalchemy's DBAPIError.
    """
    require_customer(customer)
    now = datetime.now(UTC)
    question = Question(
        at=now if as_of is None else parse_moment(as_of),
        as_of=as_of is not None,
        without=frozenset(without),
    )
    plans = load_plans(settings.plans_file)
    with snapshot(make_engine(settings, "explain")) as connection:
        dossier = read_dossier(connection, customer)
    require_events(dossier, question.without)
    explanation = explain(dossier, question, plans, timedelta(hours=settings.grace_hours))
    if as_json:
        print(json.dumps(to_document(explanation), indent=2))  # noqa: T201 - it is the output
    else:
        render(Console(highlight=False, markup=False), explanation)
    return 0


def parse_moment(text: str) -> datetime:
    """Read a moment as ISO 8601 spells it, UTC where it names no zone; raises UsageError."""
    try:
        found = datetime.fromisoformat(text)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageError(
            f"--as-of {text}: give a moment as in 2026-11-24T10:00 or 2026-11-24T10:00+01:00"
        ) from None


def require_events(dossier: Dossier, without: Collection[str]) -> None:
    """Raise UsageError for events that are not recorded for the customer."""
    known = {one.event.event_id for one in dossier.events}
    if missing := sorted(set(without) - known):
        raise UsageError(
            f"--without: {', '.join(missing)} is not recorded for {dossier.customer_id}"
        )
