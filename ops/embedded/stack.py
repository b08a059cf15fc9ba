"""Kafka, PostgreSQL and Valkey on this machine, side by side, in one folder."""

import fcntl
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from ops.embedded.errors import EmbeddedError
from ops.embedded.kafka import KafkaBroker
from ops.embedded.ports import free_ports
from ops.embedded.postgres import Postgres
from ops.embedded.server import Server
from ops.embedded.valkey import Valkey

SERVERS = ("kafka", "postgresql", "valkey")

Progress = Callable[[str, str], None]
"""Called with a server's name and what it has come to."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the servers listen, on loopback; beside the usual numbers, which may be taken."""

    kafka: int = 19092
    controller: int = 19093
    postgres: int = 15432
    valkey: int = 16379

    @classmethod
    def free(cls) -> Self:
        """Return ports that nobody uses at this moment."""
        return cls(*free_ports(4))


class Stack:
    """The servers of one data folder; one at a time owns the folder.

    `start` and `stop` belong into a thread that lives as long as the servers are to: they end
    with it. `only` names the servers to run; the others are somebody else's.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        ports: Ports | None = None,
        only: Collection[str] = SERVERS,
        kafka_properties: Mapping[str, str] | None = None,
        on_progress: Progress | None = None,
    ) -> None:
        self.data_dir = data_dir.resolve()
        ports = ports or Ports()
        self.kafka = KafkaBroker(
            self.data_dir, ports.kafka, members=[ports.controller], properties=kafka_properties
        )
        self.postgres = Postgres(self.data_dir, ports.postgres)
        self.valkey = Valkey(self.data_dir, ports.valkey)
        everything: list[Server] = [self.kafka, self.postgres, self.valkey]
        self.servers = [server for server in everything if server.name in only]
        self._on_progress = on_progress or (lambda _server, _text: None)
        self._lock: IO[str] | None = None

    def start(self) -> None:
        """Start all servers and wait until each answers; raises EmbeddedError.

        On any failure those that run already are stopped again.
        """
        self._lock = lock_folder(self.data_dir)
        try:
            start_servers(self.servers, self._on_progress)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop all servers in order; safe to repeat."""
        for server in reversed(self.servers):
            server.stop()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


class KafkaCluster:
    """Several brokers that replicate, for tests of what one broker cannot show."""

    def __init__(
        self,
        data_dir: Path,
        *,
        brokers: int = 3,
        ports: Sequence[int] | None = None,
        properties: Mapping[str, str] | None = None,
    ) -> None:
        """Name `ports`, two for each broker, where one is to be started again after a while."""
        self._data_dir = data_dir.resolve()
        ports = ports or free_ports(2 * brokers)
        self.brokers = [
            KafkaBroker(
                self._data_dir,
                ports[node],
                members=ports[brokers:],
                node=node + 1,
                properties=properties,
            )
            for node in range(brokers)
        ]
        self._lock: IO[str] | None = None

    @property
    def bootstrap(self) -> str:
        """What clients connect to."""
        return ",".join(broker.bootstrap for broker in self.brokers)

    def start(self) -> None:
        """Start all brokers and wait until each answers; raises EmbeddedError."""
        self._lock = lock_folder(self._data_dir)
        start_servers(self.brokers, lambda _server, _text: None)

    def stop(self) -> None:
        """Stop all brokers; safe to repeat."""
        for broker in self.brokers:
            broker.stop()
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def start_servers(servers: Collection[Server], on_progress: Progress) -> None:
    """Prepare servers side by side, spawn each from this thread, wait for all."""
    began = time.monotonic()
    with ThreadPoolExecutor(2 * max(len(servers), 1)) as pool:
        preparing: dict[Future[None], Server] = {}
        waiting: dict[Future[None], Server] = {}
        for server in servers:
            on_progress(server.name, "preparing")
            preparing[pool.submit(server.prepare)] = server
        for prepared in as_completed(preparing):
            prepared.result()
            server = preparing[prepared]
            # A server dies with the thread that spawned it, so never from the pool.
            server.spawn()
            on_progress(server.name, f"starting on port {server.port}")
            waiting[pool.submit(server.wait_ready)] = server
        for ready in as_completed(waiting):
            ready.result()
            on_progress(
                waiting[ready].name, f"up, {time.monotonic() - began:.1f} s after the start"
            )


def is_in_use(folder: Path) -> bool:
    """Tell whether a running `up` or stack owns a data folder."""
    try:
        with (folder / "lock").open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def lock_folder(folder: Path) -> IO[str]:
    """Own a data folder until the returned file is closed; raises EmbeddedError naming who does."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "lock").open("a+")
    except OSError as error:
        raise EmbeddedError(f"cannot write in {folder}: {error.strerror}; use --data-dir") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        owner = file.read().strip() or "unknown"
        file.close()
        raise EmbeddedError(
            f"{folder} is in use by a running hookline (process {owner}): stop that one first, "
            "or name another folder with --data-dir"
        ) from None
    file.seek(0)
    file.truncate()
    file.write(str(os.getpid()))
    file.flush()
    return file
