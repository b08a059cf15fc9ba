"""The signature check: every case a table line, on bytes, with the time passed in."""

from collections.abc import Callable
from typing import Any

import pytest
from stripe import WebhookSignature

from schemas.signature import (
    MAX_HEADER,
    MAX_SIGNATURES,
    RefusalReason,
    Refused,
    Verified,
    sign,
    verify,
    verify_recorded,
)

NOW = 1_700_000_000
SECRET = "whsec_kat_0123456789abcdef"
OTHER = "whsec_another"
BODY = b'{"id":"evt_1","object":"event"}'
GOOD = sign(BODY, SECRET, NOW).partition("v1=")[2]
WRONG = "0" * 64
ALTERED = GOOD[:-1] + f"{int(GOOD[-1], 16) ^ 1:x}"
ARABIC = "".join(chr(0x660 + int(digit)) for digit in str(NOW))
RAW_BYTE = "\udce4"
"""The byte E4 alone, which is no UTF-8, as `raw` spells it."""

KNOWN_ANSWERS = [
    (
        b'{"id":"evt_kat_1","object":"event"}',
        "5d3dbcb1087bdef4a0f70b25b56c88d2878cabfcb7fa0b90a4135fb4e8cbc36a",
    ),
    (
        '{"id":"evt_kat_2","name":"Zoë – 日本 🚀"}'.encode(),  # noqa: RUF001 - the vector has it
        "98b8fb21f1ca59429e937c64b97dcc41dd5043ea58e8e5f719913a312bc614d3",
    ),
    (
        b'{"id":"evt_kat_3"}\n',
        "ba0b9b66a7c2219573b560662aca2925f8d79ba59a36c0c44f4c3d5c28b2cfcd",
    ),
    (b"", "2523cab64d8680ea2892d8b712333699050033879d90d206bf80901b238b8ad8"),
    (
        b'{ "id" : "evt_kat_6" ,\r\n "object":"event" }',
        "84bbe66293b6a9783eb11b4c7b98d83f504d6346f1350f978654a207cba719b9",
    ),
]


def raw(header: str) -> bytes:
    """Return a header as bytes."""
    return header.encode("utf-8", "surrogateescape")


ACCEPTED = {
    "valid": f"t={NOW},v1={GOOD}",
    "upper case": f"t={NOW},v1={GOOD.upper()}",
    "mixed case": f"t={NOW},v1={GOOD[:32].upper()}{GOOD[32:]}",
    "v1 first": f"v1={GOOD},t={NOW}",
    "another scheme beside it": f"t={NOW},v0={WRONG},v1={GOOD}",
    "an unknown scheme beside it": f"t={NOW},v9=x,v1={GOOD}",
    "another scheme that is not ASCII": f"t={NOW},v0=ä{RAW_BYTE},v1={GOOD}",
    "another scheme that is empty": f"t={NOW},v0=,v1={GOOD}",
    "sixteen": f"t={NOW}" + f",v1={WRONG}" * (MAX_SIGNATURES - 1) + f",v1={GOOD}",
    "good after bad": f"t={NOW},v1={WRONG},v1={GOOD}",
    "good before bad": f"t={NOW},v1={GOOD},v1={WRONG}",
    "wrong v1, v2, right v1, wrong v1": f"t={NOW},v1={WRONG},v2={GOOD},v1={GOOD},v1={WRONG}",
}

REFUSED = {
    "no header": (None, RefusalReason.MISSING),
    "empty": ("", RefusalReason.MISSING),
    "without an equals sign": ("hello", RefusalReason.MALFORMED),
    "scheme alone": ("v1,t=1", RefusalReason.MALFORMED),
    "scheme alone after a good one": (f"t={NOW},v1={GOOD},v1", RefusalReason.MALFORMED),
    "v1, and nothing": ("v1,", RefusalReason.MALFORMED),
    "a comma at the end": (f"t={NOW},v1={GOOD},", RefusalReason.MALFORMED),
    "a comma at the start": (f",t={NOW},v1={GOOD}", RefusalReason.MALFORMED),
    "semicolons": (f"t={NOW};v1={GOOD}", RefusalReason.MALFORMED),
    "no t": (f"v1={GOOD}", RefusalReason.MALFORMED),
    "t empty": (f"t=,v1={GOOD}", RefusalReason.MALFORMED),
    "t zero": (f"t=0,v1={GOOD}", RefusalReason.MALFORMED),
    "t a fraction": (f"t={NOW}.0,v1={GOOD}", RefusalReason.MALFORMED),
    "t in hex": (f"t=0x6553f100,v1={GOOD}", RefusalReason.MALFORMED),
    "T": (f"T={NOW},v1={GOOD}", RefusalReason.MALFORMED),
    "t a word": (f"t=hello,v1={GOOD}", RefusalReason.MALFORMED),
    "t with a sign": (f"t=+{NOW},v1={GOOD}", RefusalReason.MALFORMED),
    "t negative": (f"t=-{NOW},v1={GOOD}", RefusalReason.MALFORMED),
    "t with a blank": (f"t= {NOW},v1={GOOD}", RefusalReason.MALFORMED),
    "t with leading zeros": (f"t=000{NOW},v1={GOOD}", RefusalReason.MALFORMED),
    "t with an underscore": (f"t=1_700000000,v1={GOOD}", RefusalReason.MALFORMED),
    "t in Arabic digits": (f"t={ARABIC},v1={GOOD}", RefusalReason.MALFORMED),
    "t of 13 digits": (f"t=1700000000000,v1={GOOD}", RefusalReason.MALFORMED),
    "two t that differ": (f"t={NOW},t={NOW + 1},v1={GOOD}", RefusalReason.MALFORMED),
    "two headers joined": (f"t={NOW},v1={GOOD},t={NOW},v1={GOOD}", RefusalReason.MALFORMED),
    "two t": (f"t={NOW},t={NOW},v1={GOOD}", RefusalReason.MALFORMED),
    "a second equals sign": (f"t={NOW},v1={GOOD}=x", RefusalReason.MALFORMED),
    "a second equals sign after t": (f"t={NOW}=,v1={GOOD}", RefusalReason.MALFORMED),
    "a second equals sign in v0": (f"t={NOW},v0=x=,v1={GOOD}", RefusalReason.MALFORMED),
    "v1 empty": (f"t={NOW},v1=", RefusalReason.MALFORMED),
    "v1 cut short": (f"t={NOW},v1={GOOD[:-1]}", RefusalReason.MALFORMED),
    "v1 too long": (f"t={NOW},v1={GOOD}0", RefusalReason.MALFORMED),
    "v1 not hex": (f"t={NOW},v1={'g' * 64}", RefusalReason.MALFORMED),
    "v1 not ASCII": (f"t={NOW},v1={'ä' * 64}", RefusalReason.MALFORMED),
    "v1 not UTF-8": (f"t={NOW},v1={RAW_BYTE * 64}", RefusalReason.MALFORMED),
    "v1 in full-width digits": (f"t={NOW},v1={chr(0xFF10) * 64}", RefusalReason.MALFORMED),
    "a good one beside one cut short": (f"t={NOW},v1={GOOD},v1=0", RefusalReason.MALFORMED),
    "a good one beside one not ASCII": (f"t={NOW},v1={GOOD},v1=ä", RefusalReason.MALFORMED),
    "a blank after the comma": (f"t={NOW}, v1={GOOD}", RefusalReason.NO_SIGNATURE),
    "V1": (f"t={NOW},V1={GOOD}", RefusalReason.NO_SIGNATURE),
    "only v0": (f"t={NOW},v0={GOOD}", RefusalReason.NO_SIGNATURE),
    "only t": (f"t={NOW}", RefusalReason.NO_SIGNATURE),
    "wrong": (f"t={NOW},v1={WRONG}", RefusalReason.WRONG),
    "one character changed": (f"t={NOW},v1={ALTERED}", RefusalReason.WRONG),
    "the right one of another time": (f"t={NOW - 1},v1={GOOD}", RefusalReason.WRONG),
    "too many": (f"t={NOW}" + f",v1={GOOD}" * (MAX_SIGNATURES + 1), RefusalReason.TOO_MANY),
    "10,000 of them": (f"t={NOW}" + f",v1={GOOD}" * 10_000, RefusalReason.TOO_LONG),
    "a NUL": (f"t={NOW}\0,v1={GOOD}", RefusalReason.MALFORMED),
    "a line feed at the end": (f"t={NOW},v1={GOOD}\n", RefusalReason.MALFORMED),
    "t with a line feed": (f"t={NOW}\n,v1={GOOD}", RefusalReason.MALFORMED),
}


@pytest.mark.parametrize(("body", "digest"), KNOWN_ANSWERS)
def test_known_answers(body: bytes, digest: str) -> None:
    """The signature of known bytes is known, and both directions agree on it."""
    header = f"t={NOW},v1={digest}"
    assert sign(body, SECRET, NOW) == header
    assert verify(raw(header), body, [SECRET], NOW) == Verified(1, NOW)
    assert verify_recorded(raw(header), body, [SECRET]) == Verified(1, NOW)


@pytest.mark.parametrize("header", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_accepted(header: str) -> None:
    """Every header that Stripe may send is accepted."""
    assert verify(raw(header), BODY, [SECRET], NOW) == Verified(1, NOW)
    assert verify_recorded(raw(header), BODY, [SECRET]) == Verified(1, NOW)


@pytest.mark.parametrize(("header", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(header: str | None, reason: RefusalReason) -> None:
    """Everything else is refused for a reason, and nothing raises."""
    encoded = None if header is None else raw(header)
    assert verify(encoded, BODY, [SECRET], NOW) == Refused(reason)
    assert verify_recorded(encoded, BODY, [SECRET]) == Refused(reason)


@pytest.mark.parametrize(
    ("age", "reason"),
    [
        (0, None),
        (15, None),
        (300 + 1e-6, RefusalReason.TOO_OLD),
        (299, None),
        (300, None),
        (300.001, RefusalReason.TOO_OLD),
        (301, RefusalReason.TOO_OLD),
        (400, RefusalReason.TOO_OLD),
        (-299, None),
        (-300, None),
        (-300.001, RefusalReason.TOO_NEW),
        (-301, RefusalReason.TOO_NEW),
        (-3600, RefusalReason.TOO_NEW),
        (-10 * 365 * 24 * 3600, RefusalReason.TOO_NEW),
    ],
)
def test_the_window_has_two_sides(age: float, reason: RefusalReason | None) -> None:
    """A stamp is good for 300 s on either side; a recorded one was let in before."""
    header = raw(f"t={NOW},v1={GOOD}")
    found = verify(header, BODY, [SECRET], NOW + age)
    assert found == (Verified(1, NOW) if reason is None else Refused(reason))
    assert verify_recorded(header, BODY, [SECRET]) == Verified(1, NOW)


@pytest.mark.parametrize(
    ("secrets", "expected"),
    [
        ([SECRET, OTHER], Verified(1, NOW)),
        ([OTHER, SECRET], Verified(2, NOW)),
        ([OTHER] * 7 + [SECRET], Verified(8, NOW)),
        ([OTHER], Refused(RefusalReason.WRONG)),
        ([SECRET.removeprefix("whsec_")], Refused(RefusalReason.WRONG)),
        ([], Refused(RefusalReason.WRONG)),
        (["", SECRET], Verified(2, NOW)),
        ([" \t", SECRET], Verified(2, NOW)),
        ([f" {SECRET}"], Refused(RefusalReason.WRONG)),
        ([f"{SECRET}\n"], Refused(RefusalReason.WRONG)),
        (["\ud800", SECRET], Verified(2, NOW)),
    ],
)
def test_any_of_several_secrets(secrets: list[str], expected: Verified | Refused) -> None:
    """While a secret is rolled either one verifies, and its position is told."""
    assert verify(raw(f"t={NOW},v1={GOOD}"), BODY, secrets, NOW) == expected
    assert verify_recorded(raw(f"t={NOW},v1={GOOD}"), BODY, secrets) == expected


def test_two_signatures_of_two_secrets() -> None:
    """Stripe signs with both while a secret is rolled; either deployment accepts."""
    both = raw(f"t={NOW},v1={GOOD},{sign(BODY, OTHER, NOW).partition(',')[2]}")
    assert isinstance(verify(both, BODY, [SECRET], NOW), Verified)
    assert isinstance(verify(both, BODY, [OTHER], NOW), Verified)


def test_a_body_that_is_not_utf8_cannot_be_stripes() -> None:
    """Correctly signed bytes that are no text are refused, not raised on."""
    body = b'{"id":"\xff"}'
    refused = Refused(RefusalReason.NOT_UTF8)
    assert verify(raw(sign(body, SECRET, NOW)), body, [SECRET], NOW) == refused
    assert verify_recorded(raw(sign(body, SECRET, NOW)), body, [SECRET]) == refused


def test_an_altered_body_is_refused() -> None:
    """One byte more, less or other, and the signature is wrong."""
    header = raw(f"t={NOW},v1={GOOD}")
    for altered in (BODY + b" ", BODY[:-1], BODY.replace(b"evt_1", b"evt_2"), b""):
        assert verify(header, altered, [SECRET], NOW) == Refused(RefusalReason.WRONG)
        assert verify_recorded(header, altered, [SECRET]) == Refused(RefusalReason.WRONG)


def test_the_longest_header_allowed() -> None:
    """The cap is a cap: one character more is refused."""
    padding = "," + "x=" + "y" * MAX_HEADER
    header = raw(f"t={NOW},v1={GOOD}" + padding)[:MAX_HEADER]
    assert isinstance(verify(header, BODY, [SECRET], NOW), Verified)
    assert verify(header + b"y", BODY, [SECRET], NOW) == Refused(RefusalReason.TOO_LONG)


def test_the_sdk_agrees_on_what_we_sign() -> None:
    """Stripe's own library accepts our signature."""
    header = sign(BODY, SECRET, NOW)
    assert WebhookSignature.verify_header(BODY.decode(), header, SECRET, tolerance=None)


@pytest.mark.parametrize("blank", ["", " ", "\t\r\n"])
def test_a_blank_secret_signs_nothing(blank: str) -> None:
    """Whoever signs with no secret at all is not let in by a list that holds a blank."""
    header = raw(sign(BODY, blank, NOW))
    assert verify(header, BODY, [blank], NOW) == Refused(RefusalReason.WRONG)
    assert verify_recorded(header, BODY, [blank]) == Refused(RefusalReason.WRONG)


def test_a_body_may_come_as_any_bytes() -> None:
    """A bytearray is read as the bytes it holds."""
    header = raw(f"t={NOW},v1={GOOD}")
    assert verify(header, bytearray(BODY), [SECRET], NOW) == Verified(1, NOW)


def test_the_signature_is_not_looked_at_out_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is refused by its form or age costs no comparison."""
    asked = note_comparisons(monkeypatch)
    header = raw(f"t={NOW},v1={GOOD}")
    assert verify(header, BODY, [SECRET], NOW + 301) == Refused(RefusalReason.TOO_OLD)
    assert verify(header + b",v1=0", BODY, [SECRET], NOW) == Refused(RefusalReason.MALFORMED)
    assert asked == []


def test_every_secret_is_compared_with_every_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK is asked for each pair, on a header of our making, and a match ends nothing."""
    asked = note_comparisons(monkeypatch)
    header = raw(f"v0=x,v1={GOOD.upper()},v1={WRONG},t={NOW}")
    assert verify(header, BODY, [SECRET, OTHER, SECRET], NOW) == Verified(1, NOW)
    rebuilt = [f"t={NOW},v1={GOOD}", f"t={NOW},v1={WRONG}"]
    assert asked == [
        (BODY, each, secret, None) for secret in (SECRET, OTHER, SECRET) for each in rebuilt
    ]


def note_comparisons(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Return the list of what the SDK is asked from now on, with the tolerance it is given."""
    asked: list[tuple[Any, ...]] = []
    real: Callable[..., bool] = WebhookSignature.verify_header

    def ask(text: str, header: str, secret: str, tolerance: float | None = 1) -> bool:
        asked.append((text, header, secret, tolerance))
        return real(text, header, secret, tolerance)

    monkeypatch.setattr(WebhookSignature, "verify_header", ask)
    return asked
