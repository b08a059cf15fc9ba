"""Typed view of the parts of a Stripe event that hookline reads; pure.

Ingest reads the route, and takes whatever is signed and has an id: refusing it would make
Stripe send it for three days and then drop it for ever. The consumer reads the fields that
stripe_objects names, and sets aside what it cannot store; a number that no float holds is nothing
to it where nothing reads it.
"""

import json
import math
from collections.abc import Callable
from typing import Any

import msgspec

from schemas.stripe_objects import Field

MAX_DEPTH = 64
MAX_TEXT = 500
"""Longer than any id or status of Stripe's; an index entry of PostgreSQL ends at 2,704 bytes."""

MAX_DIGITS = 100
GREATEST_CREATED = 253_402_300_799
"""The last second of the year 9999: what PostgreSQL and Python can both hold."""

Json = dict[str, Any]

_BRACES = bytes.maketrans(b"[]", b"{}")
_NOT_STRUCTURE = bytes(set(range(256)) - set(b'{}[]"'))
_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_LONG_NUMBER = b"0" * (MAX_DIGITS + 1)
SAMPLE_EVERY = 20
_SAMPLED_NUMBER = b"0" * (MAX_DIGITS // SAMPLE_EVERY)


class BadEvent(Exception):  # noqa: N818 - named by what it is about
    """A body that is no event hookline can work with; `reason` is a code, `detail` a sentence."""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(detail)


class Route(msgspec.Struct, frozen=True):
    """What ingest needs of a body: all but the id may be odd or missing."""

    id: str
    type: str
    created: int | None
    livemode: bool | None
    account: str | None
    is_thin: bool
    key: str


class StripeEvent(msgspec.Struct, frozen=True):
    """One event; `object` is `data.object` as Stripe rendered it, of the fields that are read."""

    id: str
    type: str
    created: int
    livemode: bool
    api_version: str | None
    account: str | None
    object: Json
    previous_attributes: Json | None


def decode_route(body: bytes) -> Route:
    """Read what routes a signed body; raises BadEvent(invalid_payload).

    Refused: not UTF-8, not a JSON object, NaN or Infinity, deeper than 64, a number of over 100
    digits, no id. Everything else passes.
    """
    try:
        document = _parse(body)
    except (ValueError, RecursionError) as error:
        raise BadEvent("invalid_payload", f"not JSON: {type(error).__name__}") from None
    event_id = document.get("id") if isinstance(document, dict) else None
    if not isinstance(event_id, str) or not event_id:
        raise BadEvent("invalid_payload", "not a JSON object with an id")
    created, livemode = document.get("created"), document.get("livemode")
    return Route(
        id=event_id,
        type=_text(document.get("type")) or "unknown",
        created=created if _is_created(created) else None,
        livemode=livemode if isinstance(livemode, bool) else None,
        account=_text(document.get("account")),
        is_thin=document.get("object") == "v2.core.event",
        key=_partition_key(document, event_id),
    )


def decode_event(body: bytes) -> StripeEvent:
    """Read the named fields of one; raises BadEvent(undecodable) with what is wrong with it."""
    try:
        document = _parse(body, _decode_event, _load_event)
    except (ValueError, RecursionError) as error:
        raise BadEvent("undecodable", f"not JSON: {type(error).__name__}") from None
    if not isinstance(document, dict):
        raise BadEvent("undecodable", "not a JSON object")
    data = document.get("data")
    obj = data.get("object") if isinstance(data, dict) else None
    previous = data.get("previous_attributes") if isinstance(data, dict) else None
    for name, right in {
        "id": bool(_text(document.get("id"))),
        "type": bool(_text(document.get("type"))),
        "created": _is_created(document.get("created")),
        "data.object": isinstance(obj, dict),
    }.items():
        if not right:
            raise BadEvent("undecodable", f"{name} is missing or of the wrong kind")
    event = StripeEvent(
        id=document["id"],
        type=document["type"],
        created=document["created"],
        livemode=document.get("livemode") is True,
        api_version=_text(document.get("api_version")),
        account=_text(document.get("account")),
        object=obj or {},
        previous_attributes=previous if isinstance(previous, dict) else None,
    )
    check_storable(event.id, event.type, event.api_version, customer_of(event))
    return event


def check_storable(*texts: str | None) -> None:
    """Raise BadEvent(undecodable) for a text that PostgreSQL cannot hold or index."""
    for text in texts:
        if text is None or (text.isascii() and "\0" not in text and len(text) <= MAX_TEXT):
            continue
        if "\0" in text:
            raise BadEvent("undecodable", "a text that is stored holds U+0000")
        if len(text) > MAX_TEXT:
            raise BadEvent("undecodable", f"a text that is stored is over {MAX_TEXT} long")
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise BadEvent("undecodable", "a text that is stored holds a lone surrogate")


def customer_of(event: StripeEvent) -> str | None:
    """Return the customer an event is about, or None; never raises.

    Stripe's objects name it as an id, an expanded object, a deleted one, or null; a detached
    payment method named it before.
    """
    return _customer(event.object, event.previous_attributes)


def customer_id_of(obj: Json) -> str | None:
    """Return the customer that one of Stripe's objects is about, or None; never raises."""
    return _customer(obj, None)


def reference(value: Any) -> str | None:
    """Return the id that a field holds: a text, or the `id` of an expanded object."""
    if isinstance(value, dict):
        value = value.get("id")
    return _text(value)


def _customer(obj: Json, previous: Json | None) -> str | None:
    if obj.get("object") == "customer":
        return _text(obj.get("id"))
    return (
        reference(obj.get("customer"))
        or reference((previous or {}).get("customer"))
        or reference(obj.get("customer_account"))
    )


def _partition_key(document: Json, event_id: str) -> str:
    """Return what orders this event: its customer, else account, else object, else itself."""
    data = document.get("data")
    obj = data.get("object") if isinstance(data, dict) else None
    previous = data.get("previous_attributes") if isinstance(data, dict) else None
    obj = obj if isinstance(obj, dict) else {}
    return (
        _customer(obj, previous if isinstance(previous, dict) else None)
        or _text(document.get("account"))
        or _text(obj.get("id"))
        or event_id
    )


def _load(body: bytes) -> Any:
    """Parse slowly what msgspec refuses: it may still be JSON as Stripe writes it."""
    text = body.decode("utf-8")
    return json.loads(text, parse_constant=_refuse_constant, parse_float=_read_finite)


def _parse(
    body: bytes,
    decode: Callable[[bytes], Any] = msgspec.json.decode,
    load: Callable[[bytes], Any] = _load,
) -> Any:
    """Parse JSON as Stripe writes it; raises ValueError, or RecursionError for a deep one."""
    unescaped = body
    if b"\\" in body:
        unescaped = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    if _has_long_number(unescaped):
        raise ValueError("absurd number")
    if _is_too_deep(unescaped):
        raise ValueError("too deep")
    try:
        return decode(body)
    except msgspec.DecodeError:
        # A lone surrogate, which JSON can spell and msgspec refuses, may stand where it does not
        # matter; everything else is refused here as well.
        return load(body)


def _has_long_number(unescaped: bytes) -> bool:
    """Look for a run of digits outside of strings; linear, unlike turning it into a number."""
    # So long a run covers five places that are 20 apart: a look at those settles most bodies.
    if _SAMPLED_NUMBER not in unescaped[::SAMPLE_EVERY].translate(_ZEROS):
        return False
    zeros = unescaped.translate(_ZEROS)
    return _LONG_NUMBER in zeros and any(_LONG_NUMBER in part for part in zeros.split(b'"')[::2])


def _is_too_deep(unescaped: bytes) -> bool:
    """Peel the brackets off, one level a turn; most bodies have too few of them to look."""
    if unescaped.count(b"{") + unescaped.count(b"[") <= MAX_DEPTH:
        return False
    structure = unescaped.translate(_BRACES, _NOT_STRUCTURE).replace(b'""', b"")
    braces = b"".join(structure.split(b'"')[::2])
    for _ in range(MAX_DEPTH):
        braces = braces.replace(b"{}", b"")
        if not braces:
            return False
    return bool(braces)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _read_finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("absurd number")
    return number


class _Name:
    """A key of the event, unequal to any other, so that a repeated one is seen."""

    def __init__(self, text: str) -> None:
        self.text = text


_top_level = msgspec.json.Decoder(dict[_Name, Field], dec_hook=lambda _kind, text: _Name(text))


def _decode_event(body: bytes) -> Any:
    """Decode an event, and look in the same pass whether it names its id twice."""
    if not body.isascii():
        body.decode("utf-8")  # the decoder does not look into what it skips
    pairs = _top_level.decode(body)
    document = {name.text: value for name, value in pairs.items()}
    if len(document) < len(pairs):
        _check_single_id([name.text for name in pairs])
    return document


def _load_event(body: bytes) -> Any:
    document = _load(body)
    if isinstance(document, dict):
        _check_single_id(_read_names(body))
    return document


def _check_single_id(names: list[str]) -> None:
    """Refuse a repeated id: the one that was read may not be the one that others read."""
    if names.count("id") > 1:
        raise BadEvent("undecodable", "the event has more than one id")


def _read_names(body: bytes) -> list[str]:
    """Return the keys of the event where a lone surrogate stands in it."""
    names: list[str] = []

    def note_names(pairs: list[tuple[str, Any]]) -> None:
        names[:] = [name for name, _ in pairs]  # the event itself is closed last

    json.loads(body, object_pairs_hook=note_names)
    return names


def _is_created(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= GREATEST_CREATED


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
