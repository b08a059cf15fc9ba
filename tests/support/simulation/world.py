"""One clock, one chance, many processes: who runs next, and which calls fail; nothing of hookline.

The same seed gives the same run. Killing a process raises Killed wherever it stands, and again
at each call that its dying `finally` blocks make, so that nothing of it reaches a server.
"""

from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random

from greenlet import getcurrent, greenlet

from consumer.errors import Retry
from support.simulation.faults import Faults

CALL_SECONDS = 0.004
"""What a call takes at most."""

LATE_SECONDS = 5.0
"""How long after its client gave up a server may still carry out what it was sent."""

TRACE = 60


class Killed(BaseException):
    """The process is dead; nothing may catch this."""


@dataclass(eq=False)
class Process:
    """One simulated process; it is dead for good once it is killed, a successor is another one."""

    name: str
    main: Callable[[], None]
    thread: greenlet = field(init=False)
    wake_at: float = 0.0
    is_ready: Callable[[], bool] | None = None
    still_since: float | None = None
    is_dead: bool = False


class World:
    """The turns of a simulated run (support/twins/turns.py)."""

    def __init__(self, seed: str) -> None:
        self.random = Random(seed)  # noqa: S311 - the same run for the same seed
        self.faults = Faults(self.random)
        self.clock = 0.0
        self.seen: Counter[str] = Counter()
        self.trace: deque[str] = deque(maxlen=TRACE)
        self.processes: list[Process] = []
        self._hub = getcurrent()
        self._running: Process | None = None
        self._later: list[tuple[float, Callable[[], None]]] = []

    # --- what the twins ask

    def now(self) -> float:
        """Return the virtual clock."""
        return self.clock

    def point(self, place: str) -> None:
        """Let others run, and let this call fail, stand still or be the last one."""
        if self._running is None:
            return
        self._pass_time(place)
        if error := self.faults.fail(place):
            self.note(f"calls to the {place.partition('.')[0]} failed", place)
            raise error

    def wait(self, is_free: Callable[[], bool], seconds: float) -> bool:
        """Let others run until something is free; False if it was not in time."""
        process = self._running
        if process is None:
            return is_free()
        process.is_ready, process.wake_at = is_free, self.clock + seconds
        self._switch(process)
        return is_free()

    def sleep(self, seconds: float) -> None:
        """Let others run for so long."""
        self.wait(lambda: False, seconds)

    def commit(
        self, place: str, effect: Callable[[], None], detach: Callable[[], None] | None = None
    ) -> None:
        """Do something that takes effect as a whole; where it raises, it may have happened."""
        process = self._running
        if process is None:
            effect()
            return
        self.point(place)
        fate = self.faults.fate(place)
        if fate is None:
            effect()
            self._pass_time(f"{place}, answer")
            return
        what = "commits" if place == "ledger.commit" else "answers"
        self.note(f"{what} in doubt, {fate}", place)
        if fate == "unheard":
            effect()
        if fate == "late" and detach is not None:
            detach()
            self.at(self.random.random() * LATE_SECONDS, lambda: _if_possible(effect))
        if fate == "killed":
            if self.random.random() < 0.5:
                effect()
            self.kill(process)
        raise self.faults.lost(place)

    # --- what the run does

    def start(self, name: str, main: Callable[[], None]) -> Process:
        """Start a process."""
        process = Process(name, main)

        def run() -> None:
            try:
                main()
            except Killed:
                pass
            finally:
                process.is_dead = True

        process.thread = greenlet(run)
        process.wake_at = self.clock
        self.processes.append(process)
        return process

    def at(self, seconds: float, happening: Callable[[], None]) -> None:
        """Let something happen so many seconds from now."""
        self._later.append((self.clock + seconds, happening))

    def note(self, what: str, place: str = "") -> None:
        """Count a fault, and keep it for the story of a failing seed."""
        self.seen[what] += 1
        name = self._running.name if self._running else "-"
        self.trace.append(f"{self.clock:9.3f} {name:<4} {what} {place}")

    def kill(self, process: Process) -> None:
        """Drop a process and all it remembers, wherever it stands."""
        process.is_dead = True
        if process is self._running:
            raise Killed
        self.processes.remove(process)
        if process.thread:
            process.thread.throw(Killed)

    def step(self) -> None:
        """Let one process run to its next point, or time pass until something happens."""
        due = [entry for entry in self._later if entry[0] <= self.clock]
        for entry in due:
            self._later.remove(entry)
            entry[1]()
        ready = [process for process in self.processes if self._is_ready(process)]
        if not ready:
            moments = [p.wake_at for p in self.processes] + [moment for moment, _ in self._later]
            self.clock = max(self.clock, min(moments, default=self.clock + 1))
            return
        process = self.random.choice(ready)
        process.is_ready, process.still_since = None, None
        self._running = process
        try:
            process.thread.switch()
        finally:
            self._running = None
            if process.is_dead and process in self.processes:
                self.processes.remove(process)

    def calm(self) -> None:
        """Let nothing fail from now on, and wake all who stand still."""
        self.faults.calm()
        for process in self.processes:
            if process.still_since is not None:
                process.wake_at = self.clock

    def _is_ready(self, process: Process) -> bool:
        if process.wake_at <= self.clock:
            return True
        return process.is_ready is not None and process.is_ready()

    def _pass_time(self, place: str) -> None:
        process = self._running
        assert process is not None
        if process.is_dead:
            raise Killed
        self.clock += self.random.random() * CALL_SECONDS
        if self.faults.strikes("kill"):
            self.note("processes killed", place)
            self.kill(process)
        process.wake_at = self.clock
        if self.faults.strikes("stand still"):
            seconds = self.faults.how_long()
            self.note(f"processes stopped for {seconds:g} s", place)
            process.wake_at, process.still_since = self.clock + seconds, self.clock
        self._switch(process)

    def _switch(self, process: Process) -> None:
        self._hub.switch()
        if process.is_dead:
            raise Killed


def _if_possible(effect: Callable[[], None]) -> None:
    with suppress(Retry):
        effect()
