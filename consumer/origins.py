"""Where the records of a pass come from, and what the same transaction notes about them there.

From Kafka: positions are locked and moved, failures become dead letters. From the dead letters:
no position is known, each letter is closed or counts one more attempt.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from consumer.halt import check_our_faults
from consumer.passes import Pass, Place, Scope, move_past
from consumer.records import Record
from consumer.storage.dead_letters import DeadLetter
from consumer.storage.ledger import Transaction
from consumer.storage.positions import Position, Positions
from consumer.storage.stored_letters import Failure, StoredLetter


class Origin(Protocol):
    """What a pass asks of the place its records come from; both calls block."""

    def lock(self, transaction: Transaction, records: Sequence[Record]) -> dict[int, Position]:
        """Lock and return the positions of these records, as far as they have any."""

    def settle(
        self, transaction: Transaction, pass_: Pass, records: Sequence[Record], scope: Scope
    ) -> None:
        """Note what became of these records; raises Halt where a fault of ours shows."""


class FromKafka:
    """Records as polled; raises Retry(position) where this process is not where it thinks."""

    def __init__(self, positions: Positions, expected: Mapping[int, Position]) -> None:
        self._positions = positions
        self._expected = expected

    def lock(self, transaction: Transaction, records: Sequence[Record]) -> dict[int, Position]:
        """Lock the positions of these records' partitions."""
        touched = {record.partition for record in records}
        return self._positions.lock(transaction, {p: self._expected[p] for p in touched})

    def settle(
        self, transaction: Transaction, pass_: Pass, records: Sequence[Record], scope: Scope
    ) -> None:
        """Set aside what failed, and move the positions past the records.

        Of a split batch only the last pass does so: it meets every record again, and would count
        the failures of the others twice.
        """
        if not scope.move_positions:
            pass_.letters.clear()
            pass_.moved = pass_.stored
            return
        check_our_faults(transaction, pass_.letters, len(pass_.fresh))
        transaction.write_letters(pass_.letters)
        pass_.moved = move_past(pass_.stored, records)
        self._positions.move(transaction, pass_.stored, pass_.moved)


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of dead letters: resolved, failed again, or not looked at yet.

    The last are further records of an event that stands in the same part: the next part tells.
    """

    resolved: frozenset[int] = frozenset()
    failed: Mapping[int, DeadLetter] = field(default_factory=dict)
    left: frozenset[int] = frozenset()


class FromLetters:
    """Records that were set aside.

    The halt rule is not asked: it protects a topic from being drained into dead letters, and
    these are dead letters already; one that fails again stays where it is.
    """

    def __init__(self, letters: Sequence[StoredLetter]) -> None:
        self._ids = {(one.partition, one.kafka_offset): one.dead_letter_id for one in letters}
        self.records = [one.to_record() for one in letters]
        self.replayed = Replayed()

    def lock(self, _transaction: Transaction, _records: Sequence[Record]) -> dict[int, Position]:
        """Lock nothing: the customers' rows decide who applies an event first."""
        return {}

    def settle(
        self, transaction: Transaction, pass_: Pass, _records: Sequence[Record], scope: Scope
    ) -> None:
        """Close what is applied or was recorded meanwhile; count an attempt of the others.

        The first passes over a batch with refused data only close: the last one meets every
        record again, and would count its failures twice.
        """
        failed = {self._id_of(letter.record): letter for letter in pass_.letters}
        read = {self._id_of(incoming.record) for incoming in pass_.fresh}
        transaction.close_letters(sorted(read - failed.keys()))
        if not scope.move_positions:
            return
        open_ = transaction.note_failures(
            [Failure(id_, one.reason, one.error) for id_, one in sorted(failed.items())]
        )
        self.replayed = Replayed(
            # What is not open any more was resolved by somebody else meanwhile.
            frozenset((read | failed.keys()) - open_),
            {id_: letter for id_, letter in failed.items() if id_ in open_},
            frozenset(self._ids.values()) - read - failed.keys(),
        )

    def _id_of(self, record: Record) -> int:
        place: Place = (record.partition, record.offset)
        return self._ids[place]
