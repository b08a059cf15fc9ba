"""All invariants in one table, and the one function that checks them."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from ops.invariants.cache import check_cache
from ops.invariants.events import check_doubles, check_loss
from ops.invariants.letters import check_letters
from ops.invariants.outputs import check_outputs
from ops.invariants.positions import check_positions, check_rest
from ops.invariants.processes import check_bounds, check_visible
from ops.invariants.rows import check_rows
from ops.invariants.subject import Check, Finding, NotChecked, Subject
from ops.invariants.truth import check_truth


@dataclass(frozen=True, slots=True)
class Invariant:
    """Something that must hold: its id, its sentence, and what looks."""

    id: str
    truth: str
    check: Check


INVARIANTS = (
    # First, so that the others look at what has come to rest where it does.
    Invariant("I6", "at rest nothing waits: no lag, no invalidation row, no lock", check_rest),
    Invariant("I1", "every accepted event is recorded once, or an open dead letter", check_loss),
    Invariant("I2", "no event is recorded twice or has its effect twice", check_doubles),
    Invariant("I3", "facts and rows are what the recorded events say", check_rows),
    Invariant("I4", "simulated customers have their known outcome", check_truth),
    Invariant("I5", "committed offset <= position <= end of the log", check_positions),
    Invariant("I7", "every cached entitlement is the database's answer", check_cache),
    Invariant("I8", "memory, files, threads and connections are bounded", check_bounds),
    Invariant("I9", "what is wrong with a process can be seen", check_visible),
    Invariant("I10", "dead letters have a reason, the exact bytes and a place", check_letters),
    Invariant("I11", "no 5xx by a caller's input, no secret in an output", check_outputs),
)
LONG_RUN = 3
IDS = tuple(sorted((one.id for one in INVARIANTS), key=lambda id_: int(id_[1:])))


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one invariant; `found` counts findings that were not kept too."""

    invariant: Invariant
    findings: Sequence[Finding]
    found: int
    looked_at: str
    is_checked: bool

    @property
    def state(self) -> str:
        """One of holds, broken and not checked."""
        if not self.is_checked:
            return "not checked"
        return "broken" if self.findings else "holds"


def check(subject: Subject, ids: Collection[str] = IDS, *, most: int | None = None) -> list[Result]:
    """Check these invariants in the order of their ids, keeping so many findings of each.

    Blocks, and locks nothing. Raises AwayError, sqlalchemy's DBAPIError or redis.RedisError where
    a server does not answer.
    """
    results = [_run(one, subject, most) for one in INVARIANTS if one.id in ids]
    return sorted(results, key=lambda result: IDS.index(result.invariant.id))


def find(subject: Subject, ids: Collection[str] = IDS) -> list[Finding]:
    """Return the findings alone."""
    return [finding for result in check(subject, ids) for finding in result.findings]


def _run(invariant: Invariant, subject: Subject, most: int | None) -> Result:
    kept: list[Finding] = []
    found = 0
    looking = invariant.check(subject)
    while True:
        try:
            finding = next(looking)
        except StopIteration as end:
            return Result(invariant, kept, found, end.value, is_checked=True)
        except NotChecked as why:
            return Result(invariant, kept, found, str(why), is_checked=bool(kept))
        found += 1
        if most is None or found <= most:
            kept.append(finding)


def summarize(results: Iterable[Result]) -> str:
    """Say in one line what holds and what does not, as `I1 to I7, I10 hold; I8 is broken`."""
    by_state: dict[str, list[str]] = {}
    for result in results:
        by_state.setdefault(result.state, []).append(result.invariant.id)
    words = {"holds": ("holds", "hold"), "broken": ("is broken", "are broken")}
    return "; ".join(
        f"{_ranges(ids)} {words.get(state, (state, state))[len(ids) > 1]}"
        for state in ("holds", "broken", "not checked")
        if (ids := by_state.get(state))
    )


def _ranges(ids: Sequence[str]) -> str:
    """Name ids, a long run of them by its first and last."""
    runs: list[list[str]] = []
    for id_ in ids:
        if runs and IDS.index(id_) == IDS.index(runs[-1][-1]) + 1:
            runs[-1].append(id_)
        else:
            runs.append([id_])
    words = (f"{r[0]} to {r[-1]}" if len(r) >= LONG_RUN else ", ".join(r) for r in runs)
    return ", ".join(words)
