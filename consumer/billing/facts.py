"""What an event can tell us about a subscription: small immutable facts; pure.

May live here: the kinds of fact and their canonical text. May not: anything that reads an event,
a clock or a row. Times are Stripe's `created`, in whole seconds.
"""

from typing import Any

import msgspec

FORMAT = 1
"""First element of a stored set; grows when the shape of a fact changes."""

ENDED = frozenset({"canceled", "incomplete_expired"})
"""Stripe never revives these; a new purchase is a new subscription."""


class Price(msgspec.Struct, frozen=True, array_like=True, order=True):
    """One price of a subscription; product and lookup key may be unknown ("")."""

    id: str
    product: str = ""
    lookup_key: str = ""


class State(msgspec.Struct, frozen=True, array_like=True):
    """The tracked state of a subscription: every column the row takes from a snapshot."""

    status: str
    prices: tuple[Price, ...]
    tier_hint: str | None
    cancel_at_period_end: bool
    cancel_at: int | None
    latest_invoice: str | None
    period_end: int | None
    pending: bool


class Snapshot(msgspec.Struct, frozen=True, array_like=True, tag="snapshot"):
    """What Stripe said the subscription is, and what it was before, if this was a change."""

    at: int
    id: str
    before: State | None
    after: State

    @property
    def is_ended(self) -> bool:
        """Tell whether this is the end of the subscription."""
        return self.after.status in ENDED

    @property
    def is_link(self) -> bool:
        """Tell whether this leaves one tracked state and enters another."""
        return self.before is not None and self.before != self.after


class Invoice(msgspec.Struct, frozen=True, array_like=True, tag="invoice"):
    """An invoice of the subscription was paid, or failed; `says` is the status it suggests."""

    invoice: str
    issued: int
    paid: bool
    at: int
    id: str
    says: str
    prices: tuple[Price, ...]
    period_end: int | None


class Checkout(msgspec.Struct, frozen=True, array_like=True, tag="checkout"):
    """A checkout of the subscription; settled means that nothing is left to pay now."""

    settled: bool
    at: int
    id: str
    says: str


Fact = Snapshot | Invoice | Checkout
FactSet = frozenset[Fact]

NO_FACTS: FactSet = frozenset()

_encode = msgspec.json.Encoder().encode
_decoder: msgspec.json.Decoder[list[Any]] = msgspec.json.Decoder(list[Any])


def canonical(fact: Fact) -> bytes:
    """Return the one text of a fact: the last key of every order, so that orders are total."""
    return _encode(fact)


def encode_facts(facts: FactSet) -> str:
    """Return a set as JSON text, `[format, fact, …]`: equal sets are equal texts."""
    texts = sorted(map(canonical, facts))
    return (b"[%d" % FORMAT + b"".join(b"," + text for text in texts) + b"]").decode()


def decode_facts(text: str) -> FactSet:
    """Read a stored set back; raises ValueError for another format."""
    number, *facts = _decoder.decode(text)
    if number != FORMAT:
        raise ValueError(f"facts of format {number}; this version reads format {FORMAT}")
    return frozenset(msgspec.convert(facts, list[Fact]))


def has_plain_texts(fact: Fact, most: int) -> bool:
    """Tell whether every text is at most that long and needs no escape in JSON.

    False where that is not certain at a glance: ask each of `texts_of` then.
    """
    try:
        text = _encode(fact)
    except UnicodeEncodeError:
        return False
    return b"\\" not in text and max(map(len, text.split(b'"'))) <= most


def texts_of(fact: Fact | None) -> list[str]:
    """Return every text that a fact holds, so that a caller can look whether it can be stored."""
    texts: list[str] = []
    pending: list[object] = [msgspec.to_builtins(fact)]
    while pending:
        value = pending.pop()
        if isinstance(value, str):
            texts.append(value)
        elif isinstance(value, list | tuple):
            pending.extend(value)
    return texts
