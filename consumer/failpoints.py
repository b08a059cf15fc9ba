"""Named places where a test may kill, stop or delay a consumer; nothing happens when none is set.

`HOOKLINE_FAILPOINT` holds `name:action`, several separated by commas. Actions: `kill` (SIGKILL),
`stop` (SIGSTOP, until somebody sends SIGCONT), `sleep=SECONDS`. `name:action@5` acts the fifth
time the place is reached; without a number the first time, with `@*` every time.
"""

import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from psycopg import OperationalError
from psycopg.pq import ExecStatus
from sqlalchemy import Connection, Engine, event

from schemas.settings import SettingsError

Place = Literal[
    "after_poll",
    "after_redis_pre",
    "after_lock",
    "after_fold",
    "before_commit",
    "in_commit",
    "after_commit",
    "before_redis_post",
    "before_offset_commit",
    "after_offset_commit",
    "in_revoke",
    "in_assign",
]
PLACES: tuple[Place, ...] = get_args(Place)

Reach = Callable[[Place], None]
"""Called at each place; whatever happens there happens inside."""

_ENTRY = re.compile(
    r"(?P<place>\w+):(?P<action>kill|stop|sleep=(?P<seconds>\d+(?:\.\d+)?))(?:@(?P<turn>\d+|\*))?"
)


def pass_by(_place: Place) -> None:
    """Do nothing: what every place does in production."""


def arm(text: str | None, engine: Engine) -> Reach:
    """Read HOOKLINE_FAILPOINT and return what each place calls; raises SettingsError.

    `in_commit` acts between sending COMMIT and reading its answer, on this engine.
    """
    if not text:
        return pass_by
    failpoints = Failpoints([_read(entry.strip()) for entry in text.split(",")])
    event.listen(engine, "commit", failpoints.commit)
    return failpoints.reach


@dataclass(frozen=True, slots=True)
class Failpoint:
    """One entry; `turn` None acts every time."""

    place: str
    signal: signal.Signals | None
    seconds: float
    turn: int | None


class Failpoints:
    """Counts how often each place is reached, and acts when it is an entry's turn."""

    def __init__(self, entries: list[Failpoint]) -> None:
        self._entries = entries
        self._reached: Counter[Place] = Counter()
        self._last: Place | None = None

    def reach(self, place: Place) -> None:
        """Act if an entry names this place and turn."""
        self._last = place
        self._reached[place] += 1
        for entry in self._entries:
            if entry.place == place and entry.turn in {None, self._reached[place]}:
                if entry.signal:
                    os.kill(os.getpid(), entry.signal)
                else:
                    time.sleep(entry.seconds)

    def commit(self, connection: Connection) -> None:
        """Send a batch's COMMIT, act, then read its answer: the driver finds the work done."""
        if self._last != "before_commit":
            return
        driver: Any = connection.connection.driver_connection
        pgconn = driver.pgconn
        pgconn.send_query(b"COMMIT")
        pgconn.flush()
        self.reach("in_commit")
        while result := pgconn.get_result():
            if result.status != ExecStatus.COMMAND_OK:
                raise OperationalError("the answer to COMMIT is lost")


def _read(entry: str) -> Failpoint:
    found = _ENTRY.fullmatch(entry)
    if found is None or found["place"] not in PLACES:
        sentence = (
            f"HOOKLINE_FAILPOINT: {entry!r} is not one of {', '.join(PLACES)} with :kill, :stop or "
            ":sleep=SECONDS, and @TURN if not the first"
        )
        raise SettingsError([sentence])
    turn = None if found["turn"] == "*" else int(found["turn"] or 1)
    signals = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}
    return Failpoint(
        found["place"], signals.get(found["action"]), float(found["seconds"] or 0), turn
    )
