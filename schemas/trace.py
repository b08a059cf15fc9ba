"""The trace that an event belongs to, as W3C's `traceparent` carries it from ingest to consumer.

The header is not signed: it ties log lines and spans together and decides nothing. Whoever
records spans does so behind `Spans`; without, ids are made and passed on all the same.
https://www.w3.org/TR/trace-context/
"""

import re
import secrets
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

HEADER = "traceparent"

_PARENT = re.compile(rb"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_NOTHING = {"0" * 32, "0" * 16}


@dataclass(frozen=True, slots=True)
class Trace:
    """One place in a trace: ids and flags in lower-case hex."""

    trace_id: str
    span_id: str
    flags: str = "00"

    def __str__(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"


def read_trace(header: bytes | None) -> Trace | None:
    """Read a `traceparent`; None where there is none, or an odd one. Never raises."""
    found = _PARENT.fullmatch(header or b"")
    if found is None:
        return None
    trace = Trace(*(part.decode() for part in found.groups()))
    return None if {trace.trace_id, trace.span_id} & _NOTHING else trace


def go_on(header: bytes | None) -> Trace:
    """Return a new place in the trace of a header, or in a new trace."""
    parent = read_trace(header)
    span_id = secrets.token_hex(8)
    if parent is None:
        return Trace(secrets.token_hex(16), span_id)
    return Trace(parent.trace_id, span_id, parent.flags)


class Span(Protocol):
    """Something that is going on now."""

    trace: Trace

    def note(self, **facts: Any) -> None:
        """Note what became of it."""


class Spans(Protocol):
    """Records what went on; each call opens a span that ends with the context."""

    def request(self, header: bytes | None) -> AbstractContextManager[Span]:
        """Open the span of one request that came with this `traceparent`, or none."""

    def batch(self, topic: str, headers: Iterable[bytes | None]) -> AbstractContextManager[Span]:
        """Open the span of one batch, linked to the places that its records carry."""


@dataclass(slots=True)
class _Unrecorded:
    trace: Trace

    def note(self, **_facts: Any) -> None:
        """Note nothing."""


class NoSpans:
    """Records nothing, and passes traces on."""

    def request(self, header: bytes | None) -> AbstractContextManager[Span]:
        """Go on in the request's trace."""
        return nullcontext(_Unrecorded(go_on(header)))

    def batch(self, _topic: str, _headers: Iterable[bytes | None]) -> AbstractContextManager[Span]:
        """Begin a trace that nobody sees."""
        return nullcontext(_UNSEEN)


_UNSEEN = _Unrecorded(Trace("0" * 32, "0" * 16))
