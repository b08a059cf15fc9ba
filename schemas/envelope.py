"""One event on its way through Kafka: what ingest writes and consumer reads; no I/O.

The value is the body exactly as Stripe signed it. The headers are CloudEvents' Kafka binary
mode (`ce_…`) plus when it was received, the signature header it came with and its trace. Headers
speed up routing and tools; whoever decides anything reads the body.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from schemas import trace

HEADER_LIMIT = 256
"""A header value is cut here, in characters: an id of half a megabyte must not be stored twice."""

Headers = list[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Envelope:
    """A signed body with what is known of it beside it; times are UTC."""

    key: str
    body: bytes
    event_id: str
    type: str
    created: datetime
    livemode: bool
    received_at: datetime
    signature: bytes
    traceparent: str | None = None
    source: str | None = None
    """Who put it in Kafka, where that was not ingest."""


def to_headers(envelope: Envelope) -> Headers:
    """Return the record headers of an envelope."""
    mode = "live" if envelope.livemode else "test"
    texts = {
        "ce_id": envelope.event_id,
        "ce_type": envelope.type,
        "ce_source": f"/stripe/{mode}",
        "ce_time": _format(envelope.created),
        "ce_specversion": "1.0",
        "content-type": "application/json",
        "hookline_received_at": _format(envelope.received_at),
    }
    headers = [(name, _encode(text[:HEADER_LIMIT])) for name, text in texts.items()]
    # Whole, unlike the rest: a signature cut short would no longer verify.
    headers.append(("hookline_signature", envelope.signature))
    if envelope.traceparent is not None:
        headers.append((trace.HEADER, _encode(envelope.traceparent)))
    if envelope.source is not None:
        headers.append(("hookline_source", _encode(envelope.source)))
    return headers


def to_key(envelope: Envelope) -> bytes:
    """Return the record key: whatever it is, one customer always gives the same bytes."""
    return _encode(envelope.key[:HEADER_LIMIT])


def header(headers: Headers | None, name: str) -> bytes | None:
    """Return the last header of that name, or None."""
    for key, value in reversed(headers or []):
        if key == name:
            return value
    return None


def received_at(headers: Headers | None) -> datetime | None:
    """Return when ingest received the event, or None where the header is missing or odd."""
    text = header(headers, "hookline_received_at") or b""
    try:
        moment = datetime.fromisoformat(text.decode())
        return moment.astimezone(UTC) if moment.tzinfo else None
    except (ValueError, OverflowError):  # the header is not signed: anything may stand in it
        return None


def _encode(text: str) -> bytes:
    """Encode text that may hold lone surrogates, which JSON can spell and UTF-8 cannot."""
    return text.encode("utf-8", "backslashreplace")


def _format(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
