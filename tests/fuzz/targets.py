"""What a coverage-guided fuzzer calls with bytes of its own making: raises where a law is broken.

Works without a fuzzer: `make test` calls the targets with samples.
"""

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from consumer.billing.facts import texts_of
from consumer.billing.handlers import read_event
from consumer.decode import Decoder
from consumer.records import Record
from fuzz.mutations import BODIES, NOW
from fuzz.oracle import is_text, matching_secret
from schemas.signature import Verified, sign, verify
from schemas.stripe_event import BadEvent, check_storable, decode_event, decode_route

SECRET = "whsec_fuzz_0123456789abcdef"
BODY = BODIES[0]
DIGEST = sign(BODY, SECRET, NOW).partition("v1=")[2].encode()
RECEIVED = datetime.fromtimestamp(NOW, UTC)

T = TypeVar("T")

_decoder = Decoder([SECRET])


def read_header(data: bytes) -> None:
    """Verify a header; an @ in it stands for the right digest, which no fuzzer guesses."""
    header = data.replace(b"@", DIGEST)
    verdict = verify(header, BODY, [SECRET], NOW)
    position = verdict.position if isinstance(verdict, Verified) else None
    assert position == matching_secret(header, BODY, [SECRET], NOW), header


def read_body(data: bytes) -> None:
    """Take a signed body through the door and the consumer, which read it alike.

    But for a number that no float holds, which the door refuses wherever it stands.
    """
    header = sign(data, SECRET, NOW).encode()
    assert isinstance(verify(header, data, [SECRET], NOW), Verified) == is_text(data)
    route = _read(decode_route, data)
    event = _read(decode_event, data)
    if event is not None and not _holds_infinity(data):
        assert route is not None, data
        assert route.id == event.id, data
    record = Record("t", 0, 0, None, data, RECEIVED, [("hookline_signature", header)])
    decoded = _decoder.decode([record])
    assert len(decoded.events) + len(decoded.letters) == 1
    if decoded.events:
        reading = read_event(decoded.events[0].event)
        check_storable(reading.subscription, reading.reference, *texts_of(reading.fact))
        assert decoded.events[0].error is None, decoded.events[0].error


def read_record_headers(data: bytes) -> None:
    """Read a signed record whose other headers somebody wrote by hand."""
    headers = [
        ("hookline_received_at", data),
        (data.decode("latin-1"), data),
        ("hookline_signature", sign(BODIES[1], SECRET, NOW).encode()),
    ]
    decoded = _decoder.decode([Record("t", 0, 0, None, BODIES[1], RECEIVED, headers)])
    assert decoded.events, data


def _holds_infinity(data: bytes) -> bool:
    floats: list[float] = []
    json.loads(data, parse_float=lambda text: floats.append(float(text)))
    return math.inf in map(abs, floats)


def _read(decode: Callable[[bytes], T], data: bytes) -> T | None:
    try:
        return decode(data)
    except BadEvent:
        return None


TARGETS: dict[str, Callable[[bytes], None]] = {
    "header": read_header,
    "body": read_body,
    "record_headers": read_record_headers,
}
SAMPLES: dict[str, tuple[bytes, ...]] = {
    "header": (
        b"t=%d,v1=@" % NOW,
        b"v1=@,t=%d,v0=x" % (NOW - 300),
        b"t=%d,v1=%s,v1=@" % (NOW + 301, b"0" * 64),
        b"t=%d,v1=@,v1=\xc3\xa4" % NOW,
        b"t=%d,t=%d,v1=@=x" % (NOW, NOW),
    ),
    "body": (
        *BODIES,
        b'{"id":"\xff"}',
        b'{"id":"\\ud800","type":"x","created":1,"data":{"object":{"customer":{"id":"\\u0000"}}}}',
        b'{"id":"evt_1","id":"evt_2","x":[[[{}]],1e999,NaN]}',
        b'{"id":"evt_1","type":"x","created":1,"data":{"object":{"x":[-1e999]}}}',
    ),
    "record_headers": (b"2026-11-24T10:00:00.000000Z", b"0001-01-01T00:00:00+14:00", b"\xff", b""),
}
