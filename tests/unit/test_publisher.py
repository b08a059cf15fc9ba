"""What readiness says of the brokers by what they acknowledge."""

from ingest.publisher import TRY_AGAIN_SECONDS, Acknowledged


class Clock:
    """A clock in the test's hand."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def test_nothing_is_said_before_a_failure() -> None:
    """A process that has published nothing yet is ready."""
    assert Acknowledged(Clock()).problem() is None


def test_the_first_failure_is_said_until_an_acknowledgement() -> None:
    """The time counts from the first failure in a row, and one acknowledgement ends it."""
    clock = Clock()
    acknowledged = Acknowledged(clock)
    acknowledged.failed()
    clock.now += 7
    acknowledged.failed()
    assert acknowledged.problem() == "Kafka has acknowledged nothing for 7 s"
    acknowledged.worked()
    assert acknowledged.problem() is None
    acknowledged.failed()
    assert acknowledged.problem() == "Kafka has acknowledged nothing for 0 s"


def test_a_failure_is_forgotten_so_that_somebody_tries_again() -> None:
    """Kept out for ever by readiness, no caller could find out that the brokers are back."""
    clock = Clock()
    acknowledged = Acknowledged(clock)
    acknowledged.failed()
    clock.now += TRY_AGAIN_SECONDS
    assert acknowledged.problem() is not None
    clock.now += 1
    assert acknowledged.problem() is None
