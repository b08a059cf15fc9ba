"""What a batch holds before and after its events are folded: payloads and positions."""

from datetime import UTC, datetime

from consumer.decode import Decoder
from consumer.passes import move_past
from consumer.records import Record
from consumer.storage.positions import Position
from schemas.payload import unpack

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def record(partition: int, offset: int) -> Record:
    """Return a record whose body is like no other's."""
    body = b'{"id":"evt_%d_%d","type":"t","created":1,"data":{"object":{}}}' % (partition, offset)
    return Record("topic", partition, offset, b"key", body, NOW)


def test_each_event_carries_its_own_body() -> None:
    """Bodies are packed together, and a repeat is dropped: none goes to another event's row."""
    records = [record(0, offset) for offset in (1, 2, 2, 3)]
    events = Decoder(None).decode(records).events
    assert [event.record.offset for event in events] == [1, 2, 3]
    assert [unpack(event.payload) for event in events] == [e.record.body for e in events]


def test_a_position_never_moves_back() -> None:
    """Each partition moves past its last record, whatever their order; one further on stays."""
    stored = {0: Position(0, "id", 5), 1: Position(1, "id", 90), 2: Position(2, "id", 7)}
    moved = move_past(stored, [record(0, 9), record(0, 6), record(1, 3)])
    assert {p: one.next_offset for p, one in moved.items()} == {0: 10, 1: 90, 2: 7}
