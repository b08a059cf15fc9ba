"""What befalls the servers of a run, beside the calls that fail: drawn at its start."""

from collections.abc import Callable
from typing import Any

from support.simulation.process import Servers
from support.simulation.world import World

EVERY_SECONDS = (2.0, 5.0, 15.0, None, None)
AWAY_SECONDS = 4.0


class Weather:
    """Lets things happen to the servers at times of its own, until it is calm."""

    def __init__(self, world: World, servers: Servers) -> None:
        self._world = world
        self._servers = servers
        self._is_calm = False
        self._dumps: list[Any] = []
        self._backups: list[Any] = []
        happenings: list[tuple[str, Callable[[], None]]] = [
            ("partitions dealt out anew", self._deal),
            ("partitions lost", self._lose),
            ("Redis flushed", servers.redis.flush),
            ("Redis set back", self._set_redis_back),
            ("a key of Redis gone", self._evict),
            ("database set back", self._set_database_back),
            ("records dropped by the client", self._drop),
            ("old records again", self._repeat),
            ("a record of somebody else's partition", self._intrude),
            ("offsets called out of range", self._cry_wolf),
            ("ledger away", lambda: self._leave("ledger")),
            ("redis away", lambda: self._leave("redis")),
            ("kafka away", lambda: self._leave("kafka")),
        ]
        for name, happening in happenings:
            every = world.random.choice(EVERY_SECONDS)
            if every is not None:
                self._plan(name, happening, every)

    def calm(self) -> None:
        """Let nothing happen any more."""
        self._is_calm = True

    def set_back_at_rest(self) -> None:
        """Lose transactions when no record comes any more by which a consumer would notice."""
        if self._backups:
            self._world.note("database set back at rest")
            self._servers.database.restore(self._world.random.choice(self._backups[-3:]))

    def _plan(self, name: str, happening: Callable[[], None], every: float) -> None:
        def happen() -> None:
            if not self._is_calm:
                self._world.note(name)
                happening()
                self._plan(name, happening, every)

        self._world.at(self._world.random.random() * 2 * every, happen)

    # --- Kafka

    def _deal(self) -> None:
        self._servers.broker.deal(self._world.random.randrange(7))

    def _lose(self) -> None:
        """Put a member out of the group without its knowing."""
        broker = self._servers.broker
        if broker.members:
            broker.leave(self._world.random.choice(broker.members))

    def _drop(self) -> None:
        """Let a client lose a record on its way: once, as the loop believes it the second time."""
        for member in self._servers.broker.members:
            for partition, offset in member.offsets.items():
                is_there = 0 <= offset < self._servers.broker.ends[partition]
                if is_there and (partition, offset) not in self._servers.dropped:
                    self._servers.dropped.add((partition, offset))
                    member.offsets[partition] += 1
                    return

    def _repeat(self) -> None:
        for member in self._servers.broker.members:
            for partition, offset in member.offsets.items():
                back = self._world.random.randrange(5)
                member.offsets[partition] = max(offset - back, 0) if offset >= 0 else offset

    def _intrude(self) -> None:
        """Return a record that was fetched before its partition was taken away."""
        for member in self._servers.broker.members:
            for partition, log in enumerate(self._servers.broker.logs):
                if partition not in member.offsets and log:
                    member.leftover.append(self._world.random.choice(list(log.values())))
                    return

    def _cry_wolf(self) -> None:
        """Say behind some records that the next ones are gone, as an old replica may."""
        for member in self._servers.broker.members:
            for partition in member.offsets:
                member.out_of_range.add(partition)
                return

    # --- PostgreSQL and Redis

    def _set_database_back(self) -> None:
        """Lose the newest transactions; mostly keep what is there for the next time."""
        database = self._servers.database
        if self._backups and self._world.random.random() < 0.4:
            database.restore(self._world.random.choice(self._backups[-3:]))
        else:
            self._backups.append(database.snapshot())

    def _set_redis_back(self) -> None:
        redis = self._servers.redis
        if self._dumps and self._world.random.random() < 0.4:
            redis.restore(self._world.random.choice(self._dumps))
        else:
            self._dumps.append(redis.snapshot())

    def _evict(self) -> None:
        keys = sorted(self._servers.redis.client.keys())
        if keys:
            self._servers.redis.client.delete(self._world.random.choice(keys))

    def _leave(self, server: str) -> None:
        away = self._world.faults.away
        away.add(server)
        self._world.at(self._world.random.random() * AWAY_SECONDS, lambda: away.discard(server))
