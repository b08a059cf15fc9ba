"""Every order in which readers, writers and faults can take their turns around one cache entry.

A state is what Redis holds, what PostgreSQL holds, how far each process has come and which faults
are still to come. From each state every turn that anybody may take is taken. Our readers are the
real ones (consumer/gatekeeper/reader.py): each wait of theirs is a turn, and how far one has come
is the list of answers it was given, which are given to it again.
"""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

from consumer.gatekeeper.cache import ABSENT, Lease
from consumer.gatekeeper.primary import Fresh
from consumer.gatekeeper.reader import Reader
from schemas.entitlement import Entitlement
from schemas.plans import Plans

CUSTOMER = "cus_1"
NOW = datetime(2026, 11, 24, tzinfo=UTC)
PLANS = Plans(default="starter", tiers=("starter",), prices={}, lookup_keys={}, products={})

Step = tuple[Any, ...]
"""What a process waits for: a name and its arguments."""

Process = Generator[Step, Any, None]


class Server(NamedTuple):
    """What one Redis holds of the customer: the version stored, and whose lease it is."""

    generation: int = 0
    value: int | None = None
    lease: str | None = None


@dataclass(frozen=True, slots=True)
class Protocol:
    """How readers fill, what writers do after their COMMIT, and what is certain."""

    reader: Callable[[str], Process]
    after_commit: str
    certain: bool
    by_generation: bool = False


class State(NamedTuple):
    """Where everybody stands."""

    redis: Server
    replica: Server
    readers: tuple[tuple[int, ...], ...]
    """The answers that each was given: a version, or the generation of a lease."""
    writers: tuple[str, ...]
    """`before`, `committed`, or `done`."""
    waiting: frozenset[int]
    """Versions whose invalidation row still stands."""
    faults: frozenset[str]

    @property
    def version(self) -> int:
        """The version that PostgreSQL holds: one more with each COMMIT."""
        return sum(writer != "before" for writer in self.writers)


def count_stale_rests(protocol: Protocol, faults: frozenset[str], readers: int = 3) -> int:
    """Return in how many states everybody is done and a reader would be given an old version."""
    return sum(
        state.redis.value is not None and state.redis.value != state.version
        for state in find_rests(protocol, faults, readers)
    )


def find_rests(protocol: Protocol, faults: frozenset[str], readers: int) -> Iterator[State]:
    """Yield each state that can be reached in which nobody has a turn left but faults and time."""
    programs: list[Program] = [
        lru_cache(None)(_Replay(protocol.reader, f"r{n}")) for n in range(readers)
    ]
    start = State(Server(), Server(), ((),) * readers, ("before", "before"), frozenset(), faults)
    seen, left = {start}, [start]
    while left:
        state = left.pop()
        moves = list(_turns(state, protocol, programs))
        if not moves:
            yield state
        for after in (*moves, *_befall(state, protocol)):
            if after not in seen:
                seen.add(after)
                left.append(after)


NOTHING = -1
"""The answer where there is neither a version nor a lease."""

Program = Callable[[tuple[int, ...]], Step | None]


class _Replay:
    """What a reader waits for once it was given these answers; None: it is done."""

    def __init__(self, program: Callable[[str], Process], name: str) -> None:
        self._program = program
        self._name = name

    def __call__(self, answers: tuple[int, ...]) -> Step | None:
        process = self._program(self._name)
        try:
            step = next(process)
            for answer in answers:
                step = process.send(self._spell_out(step[0], answer))
        except StopIteration:
            return None
        return step

    def _spell_out(self, step: str, answer: int) -> Any:
        if step == "get":
            return ABSENT if answer == NOTHING else answer_of(answer)
        if step == "read":
            return Fresh(answer_of(answer), NOW, None, 0.0)
        if step == "lease" and answer != NOTHING:
            return Lease(CUSTOMER, str(answer), self._name)
        return None


def _turns(state: State, protocol: Protocol, programs: list[Program]) -> Iterator[State]:
    """Yield what may come of each process' next turn."""
    for number, program in enumerate(programs):
        answers = state.readers[number]
        step = program(answers)
        if step is not None:
            redis, answer = _serve(state, step)
            given = (*state.readers[:number], (*answers, answer), *state.readers[number + 1 :])
            yield state._replace(redis=redis, readers=given)
    yield from _write(state, protocol)
    for version in state.waiting:
        # The sweeper may do so at any time, beside the writer itself.
        redis = _effect(state.redis, protocol.after_commit, version)
        yield state._replace(redis=redis, waiting=state.waiting - {version})


def _serve(state: State, step: Step) -> tuple[Server, int]:
    """Carry out what a reader waits for, and return what stands in Redis then, and the answer."""
    name, *arguments = step
    redis = state.redis
    if name == "get":
        return redis, NOTHING if redis.value is None else redis.value
    if name == "read":
        return redis, state.version
    if name == "lease" and redis.lease is None:
        return redis._replace(lease=arguments[0]), redis.generation
    if name == "fill":
        lease, version = arguments
        stands = (str(redis.generation), redis.lease) == (lease.generation, lease.token)
        return redis._replace(value=version, lease=None) if stands else redis, NOTHING
    return redis if name == "lease" else _effect(redis, name, arguments[0]), NOTHING


def _effect(redis: Server, name: str, version: int) -> Server:
    """Carry out what a writer does after its COMMIT, or a reader without a lease."""
    if name == "drop":
        return redis._replace(value=None, lease=None)
    if name == "store" or redis.value is None or redis.value < version:
        return redis._replace(value=version)
    return redis


def _write(state: State, protocol: Protocol) -> Iterator[State]:
    """Yield the next turn of each writer; their COMMITs are in order, what follows is in none."""
    for number, writer in enumerate(state.writers):
        version = number + 1
        if writer == "before" and state.version == number:
            waiting = state.waiting | ({version} if protocol.certain else set())
            yield _at(state, number, "committed")._replace(waiting=waiting)
        elif writer == "committed":
            redis = _effect(state.redis, protocol.after_commit, version)
            after = _at(state, number, "done")
            yield after._replace(redis=redis, waiting=state.waiting - {version})


def _befall(state: State, protocol: Protocol) -> Iterator[State]:
    """Yield what may come of each fault, and of time: a lease ends, a replica catches up."""
    redis = state.redis
    if redis.lease is not None:
        yield state._replace(redis=redis._replace(lease=None))
    left = {fault: state.faults - {fault} for fault in state.faults}
    if "flush" in left:
        flushed = redis._replace(value=None, lease=None)
        yield state._replace(redis=flushed, faults=left["flush"])
    if "crash" in left:
        for number, writer in enumerate(state.writers):
            if writer == "committed":
                yield _at(state, number, "done")._replace(faults=left["crash"])
    if "fail-over" in left:
        if state.replica != redis:
            yield state._replace(replica=redis)
        # Who asks by generation finds nothing of the other server's, so it may as well be empty.
        successor = Server(redis.generation + 1) if protocol.by_generation else state.replica
        yield state._replace(redis=successor, faults=left["fail-over"])


def _at(state: State, number: int, place: str) -> State:
    writers = (*state.writers[:number], place, *state.writers[number + 1 :])
    return state._replace(writers=writers)


def answer_of(version: int) -> Entitlement:
    """Return the answer of a version."""
    return Entitlement(CUSTOMER, "starter", True, "active", None, None, version)  # noqa: FBT003


# --- readers


class _Turn:
    """Something to wait for, handed to whoever drives the coroutine."""

    def __init__(self, *step: Any) -> None:
        self._step = step

    def __await__(self) -> Generator[Step, Any, Any]:
        return (yield self._step)


class _Ports:
    """The cache and the primary of a real reader: each call is a turn."""

    def __init__(self, name: str) -> None:
        self._name = name

    async def get(self, _customer: str) -> Any:
        return await _Turn("get")

    async def take_lease(self, _customer: str) -> Any:
        return await _Turn("lease", self._name)

    async def fill(self, lease: Lease, answer: Entitlement, _seconds: float) -> None:
        await _Turn("fill", lease, answer.version)

    async def by_customer(self, _customer: str) -> Any:
        return await _Turn("read")

    async def by_reference(self, _reference: str) -> None:
        raise NotImplementedError


def leasing_reader(name: str) -> Process:
    """Drive the real reader."""
    ports = _Ports(name)
    reader = Reader(ports, ports, PLANS, now=lambda: NOW, monotonic=lambda: 0.0)
    yield from reader.by_customer(CUSTOMER).__await__()


def storing_reader(how: str) -> Callable[[str], Process]:
    """Return a reader that stores what it read as most do: without a lease."""

    def read(_name: str) -> Process:
        if (yield ("get",)) is ABSENT:
            fresh = yield ("read",)
            yield (how, fresh.answer.version)

    return read
