"""What the door lets through, what the consumer sets aside, and whose event it is."""

from typing import Any

import pytest

from schemas.stripe_event import (
    GREATEST_CREATED,
    MAX_TEXT,
    BadEvent,
    customer_of,
    decode_event,
    decode_route,
)
from support.stripe import OLD, T0, body, event

GOOD = event("invoice.paid", {"id": "in_1", "object": "invoice", "customer": "cus_1"}, id="evt_1")


def nested(depth: int, opening: str = "[", closing: str = "]") -> bytes:
    """Return a body whose deepest value stands `depth` levels down, the event being one."""
    levels = depth - 1
    return b'{"id":"evt_1","x":%s%s}' % (
        (opening * levels).encode(),
        (("1" if opening[0] == "{" else "") + closing * levels).encode(),
    )


def alternating(depth: int) -> bytes:
    """Return the same with arrays and objects in turn."""
    pairs, odd = divmod(depth - 1, 2)
    value = '[{"a":' * pairs + ("[]" if odd else "1") + "}]" * pairs
    return f'{{"id":"evt_1","x":{value}}}'.encode()


REFUSED = {
    "empty": b"",
    "null": b"null",
    "array": b"[]",
    "text": b'"evt_1"',
    "cut_short": b'{"id":"evt_1"',
    "not_utf8": b'{"id":"evt_1","x":"\xff"}',
    "encoded_surrogate": b'{"id":"evt_1","x":"\xed\xa0\x80"}',
    "byte_order_mark": b'\xef\xbb\xbf{"id":"evt_1"}',
    "nan": b'{"id":"evt_1","x":NaN}',
    "infinity": b'{"id":"evt_1","x":-Infinity}',
    "nan_beside_a_surrogate": b'{"id":"evt_1","x":NaN,"y":"\\ud800"}',
    "infinite_number": b'{"id":"evt_1","x":1e999}',
    "infinite_number_beside_a_surrogate": b'{"id":"evt_1","x":1e999,"y":"\\ud800"}',
    "5000_digits": b'{"id":"evt_1","x":' + b"9" * 5000 + b"}",
    "101_digits": b'{"id":"evt_1","x":' + b"1" * 101 + b"}",
    "depth_65_arrays": nested(65),
    "depth_65_objects": nested(65, '{"a":', "}"),
    "depth_65_alternating": alternating(65),
    "depth_100000": nested(100_000),
    "never_closed": b'{"id":"evt_1","x":' + b"[" * 100_000,
    "no_id": b'{"type":"invoice.paid"}',
    "null_id": b'{"id":null}',
    "number_as_id": b'{"id":17}',
    "empty_id": b'{"id":""}',
}
LET_THROUGH = {
    "nothing_but_an_id": b'{"id":"evt_1"}',
    "depth_64_arrays": nested(64),
    "depth_64_objects": nested(64, '{"a":', "}"),
    "depth_64_alternating": alternating(64),
    "100_digits": b'{"id":"evt_1","x":' + b"1" * 100 + b"}",
    "digits_in_a_text": b'{"id":"evt_1","x":"' + b"1" * 5000 + b'"}',
    "brackets_in_a_text": b'{"id":"evt_1","x":"' + b"[{" * 5000 + b'"}',
    "brackets_after_escaped_quotes": b'{"id":"evt_1","x":"\\\\\\"' + b"[" * 100 + b'\\\\"}',
    "many_brackets_side_by_side": b'{"id":"evt_1","x":[' + b"{}," * 5000 + b"{}]}",
    "two_ids": b'{"id":"evt_1","x":{"id":"in_1"},"id":"evt_1"}',
    "lone_surrogate": b'{"id":"evt_1","x":"\\ud800"}',
    "lone_surrogate_as_id": b'{"id":"\\ud800"}',
    "u0000": b'{"id":"evt_1\\u0000"}',
    "odd_fields": b'{"id":"evt_1","type":7,"created":"soon","livemode":1,"data":[]}',
}


@pytest.mark.parametrize("name", REFUSED)
def test_door_refuses(name: str) -> None:
    """What is not JSON as Stripe writes it, or has no id, is invalid_payload."""
    with pytest.raises(BadEvent) as caught:
        decode_route(REFUSED[name])
    assert caught.value.reason == "invalid_payload"


@pytest.mark.parametrize("name", REFUSED)
def test_consumer_sets_aside_what_the_door_refuses(name: str) -> None:
    """No body that the door refuses is an event to the consumer."""
    with pytest.raises(BadEvent) as caught:
        decode_event(REFUSED[name])
    assert caught.value.reason == "undecodable"


@pytest.mark.parametrize("name", LET_THROUGH)
def test_door_lets_through(name: str) -> None:
    """Whatever is odd inside a JSON object with an id is the consumer's matter."""
    route = decode_route(LET_THROUGH[name])
    assert route.id
    assert route.key not in {"", "None", "null"}


def with_fields(**fields: Any) -> bytes:
    """Return the good event with some fields replaced."""
    return body(GOOD | fields)


def without(name: str) -> bytes:
    """Return the good event without a field."""
    return body({key: value for key, value in GOOD.items() if key != name})


UNDECODABLE = {
    "no_type": without("type"),
    "empty_type": with_fields(type=""),
    "number_as_type": with_fields(type=3),
    "no_created": without("created"),
    "text_as_created": with_fields(created="2026-01-01T00:00:00Z"),
    "fraction_as_created": with_fields(created=1.5),
    "true_as_created": with_fields(created=True),
    "negative_created": with_fields(created=-1),
    "created_after_the_year_9999": with_fields(created=GREATEST_CREATED + 1),
    "no_data": without("data"),
    "array_as_data": with_fields(data=[]),
    "no_object": with_fields(data={}),
    "null_object": with_fields(data={"object": None}),
    "array_as_object": with_fields(data={"object": []}),
    "two_different_ids": body(GOOD)[:-1] + b',"id":"evt_2"}',
    "the_same_id_twice": body(GOOD)[:-1] + b',"id":"evt_1"}',
    "another_id_between": body(GOOD)[:-1] + b',"id":"evt_2","id":"evt_1"}',
    "second_id_escaped": body(GOOD)[:-1] + b',"\\u0069d":"evt_1"}',
    "two_ids_beside_a_surrogate": body(GOOD)[:-1] + b',"x":"\\ud800","id":"evt_1"}',
    "u0000_in_the_id": with_fields(id="evt_\0"),
    "u0000_in_the_type": with_fields(type="invoice\0paid"),
    "u0000_in_the_api_version": with_fields(api_version="\0"),
    "u0000_in_the_customer": with_fields(data={"object": {"customer": "cus_\0"}}),
    "surrogate_in_the_id": with_fields(id="evt_\ud800"),
    "surrogate_in_the_customer": with_fields(data={"object": {"customer": "cus_\udfff"}}),
    "id_too_long": with_fields(id="e" * (MAX_TEXT + 1)),
}


@pytest.mark.parametrize("name", UNDECODABLE)
def test_consumer_sets_aside(name: str) -> None:
    """What cannot be an event, or cannot be stored, is undecodable, and the door publishes it."""
    with pytest.raises(BadEvent) as caught:
        decode_event(UNDECODABLE[name])
    assert caught.value.reason == "undecodable"
    assert caught.value.detail
    assert decode_route(UNDECODABLE[name]).id


@pytest.mark.parametrize("created", [0, T0, GREATEST_CREATED])
def test_consumer_reads_the_whole_range_of_created(created: int) -> None:
    """The first and the last second that can be stored are events as any other."""
    assert decode_event(with_fields(created=created)).created == created


def test_what_is_skipped_must_be_text_as_well() -> None:
    """Bytes that are not UTF-8 make no event, in a field that nothing reads either."""
    odd = with_fields(data={"object": GOOD["data"]["object"] | {"skipped": "odd"}})
    assert decode_event(odd).object == GOOD["data"]["object"]
    with pytest.raises(BadEvent):
        decode_event(odd.replace(b'"odd"', b'"\xff"'))


def test_surrogate_that_is_not_stored_does_no_harm() -> None:
    """A lone surrogate in a field that nothing reads does not cost the event."""
    found = decode_event(with_fields(pending_webhooks="\ud800"))
    assert (found.id, customer_of(found)) == ("evt_1", "cus_1")


def test_ids_further_down_are_not_the_events() -> None:
    """Only a repeated key of the event itself counts, not the ids of what it holds."""
    found = decode_event(with_fields(request={"id": "req_1"}, type="id"))
    assert found.id == "evt_1"


EVENTS: dict[str, dict[str, Any]] = {
    "no_request": {},
    "request_null": {"request": None},
    "request_text": {"request": "req_1"},
    "request_object": {"request": {"id": "req_1", "idempotency_key": None}},
    "request_of_nulls": {"request": {"id": None, "idempotency_key": None}},
    "api_version_null": {"api_version": None},
    "api_version_number": {"api_version": 20240620},
    "pending_webhooks_text": {"pending_webhooks": "1"},
    "livemode_null": {"livemode": None},
    "account_null": {"account": None},
    "context": {"context": "acct_1/acct_2"},
    "invented_tomorrow": {"invented": {"tomorrow": [1]}, "type": "invented.tomorrow"},
}


@pytest.mark.parametrize("name", EVENTS)
def test_what_stands_around_an_event_does_not_change_it(name: str) -> None:
    """Requests, versions and fields of any kind leave the event, its customer and its key alone."""
    raw = with_fields(**EVENTS[name])
    found = decode_event(raw)
    assert (found.id, found.created, found.object) == ("evt_1", T0, GOOD["data"]["object"])
    assert (found.type, found.livemode) == (EVENTS[name].get("type", "invoice.paid"), False)
    assert found.api_version in {OLD, None}
    assert customer_of(found) == decode_route(raw).key == "cus_1"


THIN: dict[str, Any] = {
    "id": "evt_1",
    "object": "v2.core.event",
    "type": "v1.billing.meter.error_report_triggered",
    "created": "2026-01-01T00:00:00.000Z",
    "livemode": False,
}
THINS = [
    THIN,
    THIN | {"related_object": {"id": "mtr_1", "type": "billing.meter", "url": "/v1/meters/1"}},
    THIN | {"related_object": None, "context": None, "reason": None},
    THIN | {"reason": {"type": "request", "request": {"id": "req_1", "idempotency_key": "k"}}},
    THIN | {"data": {"developer_message_summary": "none"}},
    {"id": "evt_1", "object": "v2.core.event"},
]


@pytest.mark.parametrize("thin", THINS)
def test_thin_event_is_told_from_its_route(thin: dict[str, Any]) -> None:
    """A thin event has no object and a written time; the door must know it without an error."""
    route = decode_route(body(thin))
    assert route.is_thin
    assert (route.created, route.key) == (None, "evt_1")
    with pytest.raises(BadEvent):
        decode_event(body(thin))
    assert not decode_route(body(GOOD)).is_thin
