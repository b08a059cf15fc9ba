"""What every server and process that `up` watches can do."""

from abc import ABC, abstractmethod

from ops.embedded.processes import Process


class Server(ABC):
    """Something that runs as one process and answers on a port."""

    name: str
    port: int
    process: Process
    start_seconds: float = 30.0

    @property
    def pid(self) -> int:
        """The process; raises EmbeddedError if it does not run."""
        return self.process.pid

    @abstractmethod
    def prepare(self) -> None:
        """Provide what the process needs, and free its port of left-overs; safe to repeat."""

    @abstractmethod
    def spawn(self) -> None:
        """Start the process; does not wait."""

    @abstractmethod
    def answers(self) -> bool:
        """Tell whether the process serves."""

    def wait_ready(self) -> None:
        """Wait until the process serves; raises EmbeddedError with the end of its log."""
        self.process.wait_ready(self.answers, self.start_seconds)

    def start(self) -> None:
        """Prepare, start and wait; for starting again after a stop or a kill."""
        self.prepare()
        self.spawn()
        self.wait_ready()

    def stop(self) -> None:
        """End the process in order; safe to repeat."""
        self.process.stop()

    def kill(self) -> None:
        """End the process as a crash does."""
        self.process.kill()

    def is_alive(self) -> bool:
        """Tell whether the process runs."""
        return self.process.is_alive()
