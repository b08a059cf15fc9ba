"""Where a backfill reads: the lists of Stripe's API, or files with what such lists answered."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any

from consumer.fetched import PREFIX, Fetched, read_failure, read_fetched
from ops.stripe_api.client import Listing, Params, StripeApi, StripeError
from ops.stripe_api.failures import FAILURE, Failures
from ops.usage import UsageError
from schemas.stripe_event import BadEvent, Json, customer_id_of

OBJECTS_AT_ONCE = 100
"""Of a file, in one transaction; as many as a page of Stripe's."""


class Phase(StrEnum):
    """What is read, in this order: customers before what belongs to them."""

    CUSTOMERS = "customers"
    SUBSCRIPTIONS = "subscriptions"
    CHECKOUTS = "checkouts"


LISTS: Mapping[Phase, tuple[Listing, Params]] = {
    Phase.CUSTOMERS: (Listing.CUSTOMERS, {}),
    Phase.SUBSCRIPTIONS: (
        Listing.SUBSCRIPTIONS,
        # All: canceled ones are left out otherwise, and would look as if never seen.
        {"status": "all", "expand[]": "data.latest_invoice"},
    ),
    # For the application's own id of a customer, which stands nowhere else.
    Phase.CHECKOUTS: (Listing.CHECKOUTS, {"status": "complete"}),
}


@dataclass(frozen=True, slots=True)
class Part:
    """What is merged in one transaction; `after` is where a list goes on behind it."""

    name: str
    fetched: list[Fetched] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    skipped: int = 0
    after: str | None = None


class Reader:
    """Reads objects, and holds them against the mode that this deployment serves."""

    def __init__(self, livemode: str, failures: Failures) -> None:
        self._livemode = livemode == "live"
        self._failures = failures

    def read(self, name: str, objects: Sequence[Json], at: int, after: str | None = None) -> Part:
        """Read the objects of one page; raises StripeError for one of the other mode."""
        part = Part(name, after=after)
        skipped = 0
        for obj in objects:
            if obj.get("livemode") not in {None, self._livemode}:
                raise StripeError(
                    f"{obj.get('id')} is of the other mode than HOOKLINE_LIVEMODE: "
                    "this deployment serves only one"
                )
            try:
                fetched = self._read(obj, at)
            except BadEvent as error:
                part.unreadable[str(obj.get("id"))] = str(error)
                continue
            if fetched is None:
                skipped += 1
            else:
                part.fetched.append(fetched)
        return Part(name, part.fetched, part.unreadable, skipped, after)

    def _read(self, obj: Json, at: int) -> Fetched | None:
        """Read one object; None for one of a kind, or of nobody, that is not hookline's."""
        kind = obj.get("object")
        if kind == "event":
            return _read_failure_event(obj, at)
        if kind not in {"customer", "subscription", "invoice", "checkout.session"}:
            return None
        if customer_id_of(obj) is None:
            return None
        return read_fetched(obj, at, self._failures.of(obj, at))


def read_api(
    api: StripeApi, reader: Reader, since: int | None, phase: Phase, after: str | None
) -> Iterator[Part]:
    """Yield the parts that are left of a run that has come as far as `after` in a phase."""
    phases = list(Phase)
    for one in phases[phases.index(phase) :]:
        listing, params = LISTS[one]
        bounded = params if since is None else {**params, "created[gte]": since}
        for page in api.walk(listing, bounded, after if one == phase else None):
            objects = page.objects
            last = str(objects[-1]["id"]) if objects else None
            yield reader.read(one, objects, page.at, last)


def read_files(paths: Sequence[Path], reader: Reader, taken: int) -> Iterator[Part]:
    """Yield the objects of files in parts; raises UsageError for a file that is none."""
    for path in paths:
        objects = _objects_of(path)
        while some := list(islice(objects, OBJECTS_AT_ONCE)):
            yield reader.read(path.name, some, taken)


def _read_failure_event(document: Json, at: int) -> Fetched | None:
    """Read the one kind of event that tells what no object does: since when a payment fails."""
    found = read_failure(document) if document.get("type") == FAILURE else None
    customer = customer_id_of(document["data"]["object"]) if found is not None else None
    if found is None or customer is None:
        return None
    return Fetched(f"{PREFIX}{at}", at, customer, found[0], frozenset({found[1]}))


def _objects_of(path: Path) -> Iterator[Json]:
    """Yield the objects of a file: an object or list a line, or one document over many lines."""
    try:
        with path.open(encoding="utf-8") as file:
            first = file.readline()
            if _parse(first) is None:
                yield from _flatten(_require(path, first + file.read()))
                return
            yield from _flatten(_parse(first))
            for line in file:
                if line.strip():
                    yield from _flatten(_require(path, line))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8 text") from None


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _require(path: Path, text: str) -> Any:
    found = _parse(text)
    if found is None:
        raise UsageError(
            f"{path} is no export: give it JSON, an object or a list of Stripe's API a line"
        )
    return found


def _flatten(found: Any) -> Iterator[Json]:
    """Yield the objects of a list object, of an array, or the one object itself."""
    if isinstance(found, dict) and found.get("object") == "list":
        found = found.get("data")
    for entry in found if isinstance(found, list) else [found]:
        if isinstance(entry, dict):
            yield entry
