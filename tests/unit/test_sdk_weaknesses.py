"""Where the Stripe SDK for Python is weak: what it does itself, and what our door does instead."""

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import stripe

from schemas.settings import IngestSettings
from schemas.signature import TOLERANCE_SECONDS, sign
from support.door import Door, Reply

NOW = 1_700_000_000
SECRET = "whsec_kat_0123456789abcdef"
BODY = b'{"id":"evt_1","object":"event","type":"x"}'
YEAR = 365 * 24 * 3600
FORGED: Reply = (400, {"error": "invalid_signature"})
NO_EVENT: Reply = (400, {"error": "invalid_payload"})
ACCEPTS = "accepts"


def stamp(body: bytes = BODY, at: int = NOW, *, written: str | None = None) -> str:
    """Return a body's signature of a time, which may be written in another way."""
    header = sign(body, SECRET, at)
    return header if written is None else header.replace(f"t={at}", f"t={written}")


def hex_of(header: str) -> str:
    """Return the digest of a header."""
    return header.partition("v1=")[2]


@dataclass(frozen=True)
class Weakness:
    """A request, what the SDK makes of it, and what we answer: None is 200 and published."""

    sdk: str
    ours: Reply | None
    header: str = ""
    body: bytes = BODY
    tolerance: int = field(default=TOLERANCE_SECONDS)

    @property
    def signature(self) -> str:
        """The header as it is sent."""
        return self.header or stamp(self.body)


ARABIC = "".join(chr(0x660 + int(digit)) for digit in str(NOW))
GOOD = hex_of(stamp())

WEAKNESSES = {
    "v1_not_ascii": Weakness("TypeError", FORGED, f"t={NOW},v1=ä"),
    "good_v1_after_one_not_ascii": Weakness("TypeError", FORGED, f"t={NOW},v1=é,v1={GOOD}"),
    "an_hour_ahead": Weakness(ACCEPTS, FORGED, stamp(at=NOW + 3600)),
    "ten_years_ahead": Weakness(ACCEPTS, FORGED, stamp(at=NOW + 10 * YEAR)),
    "five_minutes_and_a_second_ahead": Weakness(ACCEPTS, FORGED, stamp(at=NOW + 301)),
    "t_with_plus": Weakness(ACCEPTS, FORGED, stamp(written=f"+{NOW}")),
    "t_with_blank": Weakness(ACCEPTS, FORGED, stamp(written=f" {NOW}")),
    "t_with_zeros": Weakness(ACCEPTS, FORGED, stamp(written=f"000{NOW}")),
    "t_with_underscore": Weakness(ACCEPTS, FORGED, stamp(written="1_700000000")),
    "t_in_arabic_digits": Weakness(ACCEPTS, FORGED, stamp(written=ARABIC)),
    "first_of_two_t_signed": Weakness(ACCEPTS, FORGED, f"t={NOW},t={NOW - 9},v1={GOOD}"),
    "last_of_two_t_signed": Weakness("refuses", FORGED, f"t={NOW - 9},t={NOW},v1={GOOD}"),
    "second_equals_sign": Weakness(ACCEPTS, FORGED, stamp() + "=x"),
    "upper_case": Weakness("refuses", None, f"t={NOW},v1={GOOD.upper()}"),
    "10000_v1": Weakness(ACCEPTS, FORGED, f"t={NOW}" + f",v1={'0' * 64}" * 9_999 + f",v1={GOOD}"),
    "body_not_utf8": Weakness("UnicodeDecodeError", NO_EVENT, body=b'{"id":"\xff"}'),
    "null": Weakness("AttributeError", NO_EVENT, body=b"null"),
    "array": Weakness("AttributeError", NO_EVENT, body=b"[]"),
    "100000_arrays": Weakness("RecursionError", NO_EVENT, body=b"[" * 100_000 + b"]" * 100_000),
    "5000_digits": Weakness(
        "ValueError", NO_EVENT, body=b'{"id":"evt_1","x":' + b"9" * 5000 + b"}"
    ),
    "nan": Weakness(ACCEPTS, NO_EVENT, body=b'{"id":"evt_1","x":NaN}'),
    "infinity": Weakness(ACCEPTS, NO_EVENT, body=b'{"id":"evt_1","x":Infinity}'),
    "minus_infinity": Weakness(ACCEPTS, NO_EVENT, body=b'{"id":"evt_1","x":-Infinity}'),
    "duplicate_id": Weakness(ACCEPTS, None, body=b'{"id":"evt_1","id":"evt_2"}'),
    "lone_surrogate": Weakness(ACCEPTS, None, body=b'{"id":"evt_1","x":"\\ud800"}'),
    "u0000": Weakness(ACCEPTS, None, body=b'{"id":"evt_1","x":"\\u0000"}'),
    "tolerance_0": Weakness(ACCEPTS, FORGED, stamp(at=NOW - YEAR), tolerance=0),
}


@pytest.fixture(autouse=True)
def _stopped_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the SDK, which takes no time, believe that it is now."""
    clock = SimpleNamespace(time=lambda: float(NOW))
    monkeypatch.setattr("stripe._webhook.time", clock)


@pytest.mark.parametrize("name", WEAKNESSES)
def test_the_sdk_does_what_we_do_not_rely_on(name: str) -> None:
    """The SDK alone would accept this, raise what a server answers with 500, or refuse Stripe's."""
    weakness = WEAKNESSES[name]
    assert verdict_of_sdk(weakness) == weakness.sdk


@pytest.mark.parametrize("name", WEAKNESSES)
def test_our_door_answers_it(name: str) -> None:
    """Each is refused with 400, or is the consumer's matter; none is an error of the server."""
    weakness = WEAKNESSES[name]
    door = Door([SECRET], NOW)
    reply = door.post(weakness.body, weakness.signature.encode())
    if weakness.ours is None:
        assert (reply[0], reply[1]["status"]) == (200, "accepted")
        assert [each.body for each in door.publisher.published] == [weakness.body]
    else:
        assert reply == weakness.ours
        assert door.publisher.published == []


def verdict_of_sdk(weakness: Weakness) -> str:
    """Return what a server that calls the SDK as its documentation shows would run into."""
    construct: Callable[..., Any] = stripe.Webhook.construct_event
    try:
        construct(weakness.body, weakness.signature, SECRET, tolerance=weakness.tolerance)
    except stripe.SignatureVerificationError:
        return "refuses"
    except Exception as error:  # noqa: BLE001 - which one it is, is what is asked
        return type(error).__name__
    return ACCEPTS


def test_a_header_over_the_cap_is_never_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """10,000 signatures cost the SDK 20 ms of processor time, and us not one comparison."""
    weakness = WEAKNESSES["10000_v1"]
    door = Door([SECRET] * 8, NOW)

    def forbid(*_: object, **__: object) -> None:
        pytest.fail("a signature was compared")

    monkeypatch.setattr(stripe.WebhookSignature, "verify_header", forbid)
    assert door.post(weakness.body, weakness.signature.encode()) == FORGED


def test_no_setting_switches_the_age_off() -> None:
    """Whatever an operator sets, a stamp is good for 300 s."""
    assert TOLERANCE_SECONDS == 300
    assert not [name for name in IngestSettings.model_fields if "toler" in name or "age" in name]
