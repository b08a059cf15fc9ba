"""One simulated consumer: the real loop, batch, hints, sweeper and housekeeping, on twins."""

from datetime import UTC, datetime, timedelta
from typing import Any

from prometheus_client import CollectorRegistry

from consumer.batch import Batch
from consumer.decode import Decoder
from consumer.housekeeping import Housekeeping
from consumer.loop import Loop
from consumer.storage.bounded_redis import Breaker
from consumer.storage.hints import Hints
from consumer.storage.invalidation import Sweeper
from consumer.storage.positions import Positions
from schemas.metrics import ConsumerMetrics
from schemas.plans import Plans
from support.pipeline import SECRET
from support.simulation.world import World
from support.twins.broker import Broker, MemoryCluster, MemoryConsumer
from support.twins.ledger import MemoryLedger
from support.twins.redis import MemoryBoundedRedis, MemoryRedis
from support.twins.rows import Database

GROUP = "hookline"
TOPIC = "stripe.events"
GRACE = timedelta(hours=24)
EPOCH = 1_795_000_000
PLANS = Plans(
    default="starter",
    tiers=("starter", "pro", "enterprise"),
    prices={},
    lookup_keys={
        "starter_monthly": "starter",
        "pro_monthly": "pro",
        "enterprise_monthly": "enterprise",
    },
    products={},
)


class Servers:
    """The three twins that all processes of a run share."""

    def __init__(self, world: World, partitions: int) -> None:
        self.database = Database(world, lambda: datetime.fromtimestamp(EPOCH + world.now(), UTC))
        self.broker = Broker(world, TOPIC, partitions)
        self.redis = MemoryRedis()
        self.dropped: set[tuple[int, int]] = set()
        """Records that a client has lost on their way already, by partition and offset."""


def build(world: World, servers: Servers) -> Loop:
    """Put a consumer together as consumer/app.py does, on twins."""
    metrics = ConsumerMetrics(CollectorRegistry())
    redis = MemoryBoundedRedis(
        servers.redis, world, metrics.redis, Breaker(world.now, world.random.random)
    )
    ledger = MemoryLedger(servers.database)
    positions = Positions(GROUP, TOPIC)
    sweeper = Sweeper(redis)
    batch = Batch(
        decoder=Decoder([SECRET]),
        hints=Hints(redis),
        ledger=ledger,
        positions=positions,
        sweeper=sweeper,
        plans=PLANS,
        grace=GRACE,
        metrics=metrics,
        now=lambda: datetime.fromtimestamp(EPOCH + world.now(), UTC),
        reach=world.point,
    )
    client: Any = MemoryCluster(servers.broker)
    return Loop(
        connect=lambda on_commit, _on_error: _client(servers, on_commit),
        cluster=client,
        topic=TOPIC,
        ledger=ledger,
        positions=positions,
        batch=batch,
        metrics=metrics,
        housekeeping=Housekeeping(ledger, sweeper, PLANS, metrics, world.now).run,
        reach=world.point,
        clock=world.now,
        sleep=world.sleep,
    )


def _client(servers: Servers, on_commit: Any) -> Any:
    return MemoryConsumer(servers.broker, on_commit)
