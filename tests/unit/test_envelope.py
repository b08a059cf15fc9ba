"""What travels beside a record, read back: it is not signed, so anything may stand in it."""

from datetime import UTC, datetime

import pytest

from schemas.envelope import Envelope, header, received_at, to_headers

MOMENT = datetime(2026, 11, 24, 10, 0, 0, 123456, tzinfo=UTC)


def test_the_signature_header_travels_byte_for_byte() -> None:
    """What ingest has verified is what the consumer verifies, in whatever bytes it came."""
    signature = b"t=1,v1=0,v0=\xe4\xff"
    envelope = Envelope(
        key="cus_1",
        body=b"{}",
        event_id="evt_1",
        type="x",
        created=MOMENT,
        livemode=False,
        received_at=MOMENT,
        signature=signature,
    )
    assert header(to_headers(envelope), "hookline_signature") == signature
    assert received_at(to_headers(envelope)) == MOMENT


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"soon",
        b"\xff",
        b"2026-11-24T10:00:00",
        b"0001-01-01T00:00:00+14:00",
        b"9999-12-31T23:59:59-14:00",
    ],
)
def test_an_odd_time_of_receipt_is_no_time(value: bytes | None) -> None:
    """A header that somebody wrote by hand costs the batch nothing."""
    headers = [] if value is None else [("hookline_received_at", value)]
    assert received_at(headers) is None
