"""What goes wrong in one run, and how often: drawn at its start, so that runs differ in kind."""

from random import Random

import redis
from confluent_kafka import KafkaError, KafkaException

from consumer.errors import Cause, Retry

RATES = (0.0, 0.0, 0.002, 0.01, 0.03)
STILL_SECONDS = (0.2, 2, 5, 12, 50)
"""Short, and longer than lock timeout, idle in transaction and session timeout."""

KINDS = (
    "kill",
    "stand still",
    "ledger fails",
    "ledger contended",
    "commit in doubt",
    "redis fails",
    "kafka fails",
)
FATES = ("unheard", "never", "late", "killed")


class Faults:
    """The chances of one run's calls."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self.rates = {kind: random.choice(RATES) for kind in KINDS}
        # A process dies less often than a call fails, or nothing would ever get done.
        self.rates["kill"] /= 4
        self.rates["stand still"] /= 4
        self.away: set[str] = set()
        """Servers that answer nobody at the moment: ledger, redis or kafka."""

    def calm(self) -> None:
        """Let nothing fail any more."""
        self.rates = dict.fromkeys(self.rates, 0.0)
        self.away.clear()

    def strikes(self, kind: str) -> bool:
        """Tell whether this kind of fault happens now."""
        rate = self.rates[kind]
        return rate > 0 and self._random.random() < rate

    def how_long(self) -> float:
        """Draw how long a process stands still."""
        return self._random.choice(STILL_SECONDS)

    def fail(self, place: str) -> Exception | None:
        """Return what this call raises without having done anything, or None."""
        server = place.partition(".")[0]
        if server in self.away:
            return self.lost(place)
        if server == "ledger" and place != "ledger.begin" and self.strikes("ledger contended"):
            return Retry(Cause.CONTENTION, "deadlock detected")
        if server in {"ledger", "redis", "kafka"} and self.strikes(f"{server} fails"):
            return self.lost(place)
        return None

    def fate(self, place: str) -> str | None:
        """Return what becomes of something that takes effect as a whole; None: all is well."""
        server = place.partition(".")[0]
        kind = "commit in doubt" if place == "ledger.commit" else f"{server} fails"
        if not self.strikes(kind):
            return None
        return self._random.choice(FATES if place == "ledger.commit" else FATES[:2])

    def lost(self, place: str) -> Exception:
        """Return what a client raises when its server does not answer."""
        server = place.partition(".")[0]
        if server == "redis":
            return redis.ConnectionError(place)
        if server == "kafka":
            return KafkaException(KafkaError(KafkaError._TRANSPORT))  # noqa: SLF001
        return Retry(Cause.AWAY, f"{place}: server closed the connection unexpectedly")
