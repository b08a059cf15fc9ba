"""The document that applications read: what a customer may use at a moment; pure."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal, Self

CUSTOMER_ID = re.compile(r"cus_[A-Za-z0-9]{1,251}", re.ASCII)
"""What the id of a customer looks like, whoever is asked about one."""

Source = Literal["cache", "database"]


@dataclass(frozen=True, slots=True)
class Entitlement:
    """One answer; times are UTC, `valid_until` is when it may change without an event.

    `customer` is None for a reference that no customer has.
    """

    customer: str | None
    tier: str
    entitled: bool
    status: str | None
    grace_until: datetime | None
    valid_until: datetime | None
    version: int
    source: Source = "database"

    def to_document(self) -> dict[str, Any]:
        """Return the answer as JSON spells it, times as ISO 8601 in UTC."""
        return asdict(self) | {
            "grace_until": _format(self.grace_until),
            "valid_until": _format(self.valid_until),
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """Read an answer back; raises KeyError, TypeError or ValueError for another shape."""
        times = {name: _read(document[name]) for name in ("grace_until", "valid_until")}
        return cls(**{**document, **times})


def _read(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _format(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z") if moment else None
