"""What the doctor says of one thing: a fact, or what is wrong and what mends it; pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """What is known of one thing; `ok` only where something was seen that says so."""

    OK = "ok"
    WRONG = "wrong"
    AWAY = "away"
    """A server that does not answer."""
    UNKNOWN = "not checked"


@dataclass(frozen=True, slots=True)
class Line:
    """One thing, what was seen of it, and the command or setting that mends it."""

    about: str
    state: State
    says: str
    mend: str | None = None
    blocks: bool = False
    """Whether nothing that needs this can be looked at."""

    def __str__(self) -> str:
        return f"{self.says} -> {self.mend}" if self.mend else self.says


def ok(about: str, says: str) -> Line:
    """Say what was seen to be as it must."""
    return Line(about, State.OK, says)


def wrong(about: str, says: str, mend: str, *, blocks: bool = False) -> Line:
    """Say what is not as it must be, and what mends it."""
    return Line(about, State.WRONG, says, mend, blocks)


def away(about: str, says: str, setting: str) -> Line:
    """Say that a server does not answer; `setting` points at it."""
    mend = None if setting in says else f"look at {setting}"
    return Line(about, State.AWAY, says, mend, blocks=True)


def unknown(about: str, why: str) -> Line:
    """Say why something was not looked at."""
    return Line(about, State.UNKNOWN, why)


def one_of(about: str, problems: Iterable[tuple[str, str]], fact: str) -> Iterable[Line]:
    """Return a line for each problem (what, mend), or else the fact."""
    found = [wrong(about, what, mend) for what, mend in problems]
    return found or [ok(about, fact)]
