"""What the door answers to a signed body, with the broker and the clock in the test's hand."""

import pytest

from ingest.publisher import WhyUnavailable
from schemas.signature import RefusalReason, sign
from support.door import Door

NOW = 1_700_000_000
SECRET = "whsec_kat_0123456789abcdef"
GOOD = b'{"id":"evt_1","object":"event","type":"x"}'


@pytest.fixture
def door() -> Door:
    """Provide a door that knows one secret."""
    return Door([SECRET], NOW)


def signature(body: bytes) -> bytes:
    """Return the header of a body."""
    return sign(body, SECRET, NOW).encode()


REFUSED = {
    "empty": b"",
    "not_json": b"this is not valid JSON",
    "cut_short": GOOD[:-1],
    "null": b"null",
    "array": b"[]",
    "text": b'"evt_1"',
    "number": b"17",
    "not_utf8": b'{"id":"\xff"}',
    "nan": b'{"id":"evt_1","x":NaN}',
    "infinity": b'{"id":"evt_1","x":Infinity}',
    "minus_infinity": b'{"id":"evt_1","x":-Infinity}',
    "infinite_number": b'{"id":"evt_1","x":1e999}',
    "5000_digits": b'{"id":"evt_1","x":' + b"9" * 5000 + b"}",
    "5000_digits_as_id": b'{"id":' + b"9" * 5000 + b"}",
    "depth_65": b'{"id":"evt_1","x":' + b"[" * 64 + b"]" * 64 + b"}",
    "depth_100000": b"[" * 100_000 + b"]" * 100_000,
    "no_id": b"{}",
    "number_as_id": b'{"id":5}',
    "empty_id": b'{"id":""}',
}
PUBLISHED = {
    "nothing_but_an_id": b'{"id":"evt_1"}',
    "depth_64": b'{"id":"evt_1","x":' + b"[" * 63 + b"]" * 63 + b"}",
    "duplicate_id": b'{"id":"evt_1","id":"evt_2"}',
    "lone_surrogate": b'{"id":"evt_1","x":"\\ud800"}',
    "lone_surrogate_as_id": b'{"id":"\\ud800"}',
    "lone_surrogate_as_customer": b'{"id":"evt_1","data":{"object":{"customer":"\\udc00"}}}',
    "lone_surrogate_as_type": b'{"id":"evt_1","type":"\\ud800"}',
    "u0000": b'{"id":"evt_1","x":"\\u0000"}',
    "u0000_as_id": b'{"id":"\\u0000"}',
    "created_in_another_era": b'{"id":"evt_1","created":999999999999999}',
    "created_before_1970": b'{"id":"evt_1","created":-62135596801}',
    "odd_all_over": b'{"id":"evt_1","created":"x","type":5,"livemode":"no","account":7,"data":[]}',
    "half_a_megabyte_as_id": b'{"id":"' + b"x" * 500_000 + b'"}',
}
IGNORED = {
    "thin_event": b'{"id":"evt_1","object":"v2.core.event","created":"2026-01-01T00:00:00.000Z"}',
    "other_mode": b'{"id":"evt_1","livemode":true}',
    "connected_account": b'{"id":"evt_1","account":"acct_1"}',
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_signed_body_that_is_no_event_is_refused(door: Door, name: str) -> None:
    """What is no JSON object with an id is 400 invalid_payload, however well it is signed."""
    body = REFUSED[name]
    assert door.post(body, signature(body)) == (400, {"error": "invalid_payload"})
    assert door.publisher.published == []


@pytest.mark.parametrize("name", REFUSED)
def test_nothing_is_parsed_before_the_signature_holds(door: Door, name: str) -> None:
    """The same bodies unsigned say nothing of what is wrong with them, but for not being text."""
    expected = "invalid_payload" if name == "not_utf8" else "invalid_signature"
    assert door.post(REFUSED[name], f"t={NOW},v1={'0' * 64}".encode()) == (400, {"error": expected})


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_signed_object_with_an_id_is_published(door: Door, name: str) -> None:
    """Whatever is odd inside, the record is the body as signed with its signature beside it."""
    body = PUBLISHED[name]
    status, document = door.post(body, signature(body))
    assert (status, document["status"]) == (200, "accepted")
    (envelope,) = door.publisher.published
    assert (envelope.body, envelope.signature) == (body, signature(body))


@pytest.mark.parametrize("reason", IGNORED)
def test_a_signed_event_for_somebody_else_is_ignored(door: Door, reason: str) -> None:
    """200, so that Stripe does not send it again; counted, and not published."""
    body = IGNORED[reason]
    assert door.post(body, signature(body)) == (200, {"status": "ignored", "reason": reason})
    assert door.publisher.published == []
    assert door.counted(200, reason) == 1


HEADERS: dict[RefusalReason, tuple[bytes, ...]] = {
    RefusalReason.MISSING: (),
    RefusalReason.TOO_LONG: (signature(GOOD) + b",x=" + b"y" * 4096,),
    RefusalReason.MALFORMED: (signature(GOOD), signature(GOOD)),
    RefusalReason.TOO_MANY: (signature(GOOD) + b",v1=0" * 16,),
    RefusalReason.NO_SIGNATURE: (signature(GOOD).replace(b"v1", b"v0"),),
    RefusalReason.TOO_OLD: (sign(GOOD, SECRET, NOW - 301).encode(),),
    RefusalReason.TOO_NEW: (sign(GOOD, SECRET, NOW + 301).encode(),),
    RefusalReason.WRONG: (sign(GOOD, "whsec_other", NOW).encode(),),
}


@pytest.mark.parametrize("reason", HEADERS)
def test_a_forger_learns_nothing(door: Door, reason: RefusalReason) -> None:
    """Each refused signature has a reason in the metric, and the same answer for the caller."""
    assert door.post(GOOD, *HEADERS[reason]) == (400, {"error": "invalid_signature"})
    assert door.counted(400, reason) == 1
    assert door.publisher.published == []


def test_every_reason_is_answered() -> None:
    """A new reason needs its case here."""
    assert set(RefusalReason) - HEADERS.keys() == {RefusalReason.NOT_UTF8}


@pytest.mark.parametrize("reason", WhyUnavailable)
def test_what_the_broker_has_not_acknowledged_is_503(door: Door, reason: WhyUnavailable) -> None:
    """200 means durable: without the acknowledgement Stripe is to send again."""
    door.publisher.broken = reason
    assert door.post(GOOD, signature(GOOD)) == (503, {"error": "unavailable"})
    assert door.counted(503, reason) == 1
