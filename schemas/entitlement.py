"""The document that applications read: what a customer may use at a moment; pure."""

import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec

CUSTOMER_ID = re.compile(r"cus_[A-Za-z0-9]{1,251}", re.ASCII)
"""What the id of a customer looks like, whoever is asked about one."""

MAX_REFERENCE = 500

Source = Literal["cache", "database"]
Moment = Annotated[datetime, msgspec.Meta(tz=True)]


@dataclass(frozen=True, slots=True)
class Entitlement:
    """One answer; times are UTC, `valid_until` is when it may change without an event.

    `customer` is None for a reference that no customer has.
    """

    customer: str | None
    tier: str
    entitled: bool
    status: str | None
    grace_until: Moment | None
    valid_until: Moment | None
    version: int
    source: Source = "database"

    def to_document(self) -> dict[str, Any]:
        """Return the answer as JSON spells it, times as ISO 8601 in UTC."""
        return asdict(self) | {
            "grace_until": _format(self.grace_until),
            "valid_until": _format(self.valid_until),
        }

    def encode(self) -> bytes:
        """Return the answer as JSON: the body of an answer, and the value of a cache entry."""
        return _encoder.encode(self)

    @classmethod
    def decode(cls, value: bytes | str) -> "Entitlement":
        """Read an answer back; raises ValueError for another shape."""
        try:
            return _decoder.decode(value)
        except msgspec.DecodeError as error:
            raise ValueError(str(error)) from None

    def holds_at(self, moment: datetime) -> bool:
        """Tell whether nothing but an event can have changed the answer by then."""
        return self.valid_until is None or moment < self.valid_until


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Entitlement)


def is_reference(text: str) -> bool:
    """Tell whether a text can be an application's own id, as the consumer stores it."""
    return 0 < len(text) <= MAX_REFERENCE and text.isprintable()


def _format(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z") if moment else None
