"""Customers with their histories: what Stripe sends of them, and what is true in the end; pure.

Same seed, same bytes: a history follows from the seed, the customer's number, the shape, the
pace and the moment at which it ends, and from nothing else.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from ops.simulator.catalogue import PLANS
from ops.simulator.life import DAY, Event, Life, Pace, Teller
from ops.simulator.objects import Shape, customer, payment_method
from ops.simulator.stories import live
from ops.simulator.truth import CustomerTruth

MOST_STEPS = 9
RECENT = DAY
"""Half of the histories end within this long before the end, so that some grace periods run."""

QUIET = 20 * DAY


AS_STRIPE = Pace()


@dataclass(frozen=True, slots=True)
class History:
    """All events of one customer in the order in which they happened, and what is true then."""

    events: tuple[Event, ...]
    truth: CustomerTruth


@dataclass(frozen=True, slots=True)
class World:
    """What a run of histories is drawn from."""

    seed: str
    end: int
    """No history goes on after this second."""
    shapes: tuple[Shape, ...] = (Shape.OLD, Shape.BASIL)
    """One customer's events come in one of them: an endpoint has one API version."""
    pace: Pace = AS_STRIPE

    @property
    def tag(self) -> str:
        """A name for this world, part of its ids: another seed or end makes other customers."""
        parts = (self.seed, self.end, "+".join(self.shapes), self.pace)
        return f"{Random(repr(parts)).getrandbits(40):010x}"  # noqa: S311 - a name, no secret

    def history(self, number: int) -> History:
        """Return one customer's history."""
        # Lived twice: once from zero to learn how long it takes, then so that it ends in time.
        rehearsal = _Customer(self, number, 0)
        return _Customer(self, number, self.end - rehearsal.seconds - rehearsal.quiet).history()

    def histories(self, count: int) -> Iterator[History]:
        """Yield the first customers' histories, one by one."""
        return map(self.history, range(count))


class _Customer:
    """One customer from the first card to the last subscription, begun at some second."""

    def __init__(self, world: World, number: int, start: int) -> None:
        name = f"{world.tag}{number:06d}"
        random = Random(name)  # noqa: S311 - the same lives for the same seed
        self._id = f"cus_sim{name}"
        self._random = random
        self._teller = Teller(self._id, random.choice(world.shapes), world.pace, random)
        self._user = f"user_{name}" if self._teller.chance(0.8) else None
        self._lives: list[Life] = []
        self._start = start
        self._tell_arrival()
        for _ in range(random.choice((1, 1, 1, 1, 2, 3))):
            self._subscribe()
        if self._teller.chance(0.03):
            self._leave()
        self.seconds = self._teller.latest - start
        self.quiet = int(random.random() * random.choice((RECENT, QUIET)))

    def history(self) -> History:
        """Return what happened, and what is true now."""
        lives = sorted(self._lives, key=lambda life: life.id)
        has_reference = any(life.reference and life.has_checkout for life in lives)
        truth = CustomerTruth(
            self._id,
            self._user if has_reference else None,
            tuple(life.truth() for life in lives),
        )
        return History(tuple(self._teller.events), truth)

    def _tell_arrival(self) -> None:
        self._teller.tell("customer.created", customer(self._id, self._start), self._start)
        card = payment_method(f"pm_{self._id}", self._id, self._start)
        self._teller.tell("payment_method.attached", card, self._start)
        if self._teller.chance(0.1):
            previous = {"customer": self._id}
            gone = card | {"customer": None}
            self._teller.tell("payment_method.detached", gone, self._start + DAY, previous)

    def _subscribe(self) -> None:
        """Take a subscription: beside the others, or in the second in which the last one ended."""
        last = self._lives[-1] if self._lives else None
        start = self._start + self._random.randint(0, 3) * DAY
        if last is not None and not last.is_alive and self._teller.chance(0.5):
            start = last.now
        life = Life(
            f"sub_{self._id.removeprefix('cus_')}s{len(self._lives)}",
            self._teller,
            start,
            self._random.choice(PLANS),
            has_add_on=self._teller.chance(0.15),
            reference=self._user,
        )
        live(life, self._random.randint(1, MOST_STEPS))
        self._lives.append(life)

    def _leave(self) -> None:
        """Delete the customer: each subscription ends with an event of its own."""
        now = max(life.now for life in self._lives)
        for life in self._lives:
            if life.is_alive:
                life.now = now
                life.end()
        self._teller.tell("customer.deleted", customer(self._id, self._start), now)
