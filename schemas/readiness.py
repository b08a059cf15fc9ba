"""What `/readyz` answers: each dependency by name; no I/O of its own.

A composition root registers a check where it builds the resource, so that readiness is
computed from what was built.
"""

import socket
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from prometheus_client import CollectorRegistry

Check = Callable[[], str | None]
"""None when all is well, else what is wrong; must not block, may be called from any thread."""


class Readiness:
    """The checks of one process, and whether it is on its way out."""

    def __init__(self) -> None:
        self._checks: dict[str, Check] = {}
        self._optional: set[str] = set()
        self._notes: dict[str, Callable[[], str]] = {}
        self._draining = False

    def add(self, name: str, check: Check, *, optional: bool = False) -> None:
        """Register the check of one dependency; an optional one is shown, but never decides."""
        self._checks[name] = check
        if optional:
            self._optional.add(name)

    def tell(self, name: str, say: Callable[[], str]) -> None:
        """Show a sentence beside the checks, where nothing is wrong with the process itself."""
        self._notes[name] = say

    @property
    def is_draining(self) -> bool:
        """Tell whether the process is on its way out."""
        return self._draining

    def drain(self) -> None:
        """Say from now on that no new work is wanted."""
        self._draining = True

    def report(self) -> tuple[bool, dict[str, Any]]:
        """Return whether the process is ready, and the document of `/readyz`."""
        problems = {name: check() for name, check in self._checks.items()}
        required = problems.keys() - self._optional
        ready = not self._draining and not any(problems[name] for name in required)
        document = {
            "ready": ready,
            "draining": self._draining,
            "checks": {name: problem or "ok" for name, problem in problems.items()},
        }
        notes = {name: say() for name, say in self._notes.items()}
        return ready, document | ({"notes": notes} if notes else {})


ServeAdmin = Callable[[str, int, CollectorRegistry, Readiness], AbstractContextManager[None]]
"""Serves `/healthz`, `/readyz` and `/metrics` on (host, port) while the context is open."""


Beside = Callable[[CollectorRegistry], AbstractContextManager[None]]
"""Does something beside a process's own work while the context is open; counts it there."""


class Serve(Protocol):
    """Serves an ASGI app on a bound socket until SIGTERM or SIGINT, then drains and returns."""

    def __call__(
        self,
        app: Any,
        listener: socket.socket,
        readiness: Readiness,
        *,
        protocol: Any = "httptools",
        on_hangup: Callable[[], None] | None = None,
    ) -> Awaitable[None]:
        """Serve; `on_hangup` is called on SIGHUP."""
