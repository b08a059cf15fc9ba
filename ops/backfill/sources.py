"""Where a backfill reads: the lists of Stripe's API, or files with what such lists answered."""

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from ops.stripe_api.client import StripeApi
from ops.stripe_api.reading import LISTS, Part, Phase, Reader
from ops.usage import UsageError
from schemas.stripe_event import Json

OBJECTS_AT_ONCE = 100
"""Of a file, in one transaction; as many as a page of Stripe's."""


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
