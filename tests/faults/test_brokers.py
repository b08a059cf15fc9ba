"""Three brokers in trouble: no false 200, a 503 in time, all of it again without a restart."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx2 as httpx
import pytest

from consumer.errors import Retry
from consumer.kafka import Cluster as Questions
from ingest.publisher import QUEUE_KIB
from ingest.webhook import MAX_BODY_BYTES, MAX_WAITING
from ops.embedded.stack import Ports, Stack
from schemas.settings import GroupSettings
from schemas.topics import PARTITIONS
from support.cluster import ALL, SESSION_SECONDS, Cluster, three_brokers
from support.databases import migrated
from support.feed import Stream
from support.forked import GROUP, Fleet
from support.invariants import catch_up, hold_invariants, positions
from support.pipeline import counted, environment, is_ready, owned, pids
from support.polling import eventually
from support.proving import Proof, examples
from support.proxy import Way
from support.senders import Senders, flood, hold_promises, logged
from support.servers import Servers

RATE = examples(100.0, 25.0)
CUSTOMERS = examples(20, 5)
"""How many customers' events are sent in one order: the senders send the last ones whole."""

CONSUMERS = ("consumer-1", "consumer-2")
PROBED_SECONDS = 20.0
"""Long enough for a readiness that looks every five seconds, on a machine with other work."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Provide three brokers for the whole file; each test leaves them well."""
    with three_brokers(tmp_path_factory.mktemp("brokers"), GROUP) as found:
        yield found


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> Iterator[Servers]:
    """Provide PostgreSQL and Valkey beside them."""
    folder = tmp_path_factory.mktemp("beside")
    with Stack(folder, ports=Ports.free(), only=("postgresql", "valkey")) as stack:
        yield Servers(cluster.direct, stack.postgres.url, stack.valkey.url)


@pytest.fixture(scope="module")
def template(servers: Servers) -> Iterator[str]:
    """Provide a migrated database to clone."""
    with migrated(servers, "template_brokers") as name:
        yield name


@dataclass
class Site:
    """A deployment on three brokers."""

    cluster: Cluster
    fleet: Fleet
    topic: str
    streams: list[Stream] = field(default_factory=list)
    started: dict[str, int] = field(default_factory=dict)

    def start(self, *, ingest: str = "", consumers: str = "") -> None:
        """Start ingest and two consumers; `direct` to the brokers, unless led elsewhere."""
        self.fleet.spawn("ingest", HOOKLINE_KAFKA_BOOTSTRAP=ingest or self.cluster.direct)
        for name in CONSUMERS:
            self.fleet.spawn(name, HOOKLINE_KAFKA_BOOTSTRAP=consumers or self.cluster.direct)
        self.fleet.all_ready()
        fair = PARTITIONS // len(CONSUMERS)
        eventually(
            lambda: all(owned(self.fleet, name) == fair for name in CONSUMERS), 120, "balance"
        )
        self.started = pids(self.fleet)

    def senders(self, seed: str) -> Senders:
        """Return senders of customers nobody has sent before."""
        stream = Stream(f"{seed} {len(self.streams)}", customers=CUSTOMERS)
        self.streams.append(stream)
        return Senders(self.fleet, stream, RATE)

    def accept(self, senders: Senders) -> None:
        """Wait until what is sent from now on is accepted."""
        self._answer(senders, httpx.codes.OK)

    def refuse(self, senders: Senders) -> None:
        """Wait until what is sent from now on is refused."""
        self._answer(senders, httpx.codes.SERVICE_UNAVAILABLE)

    def _answer(self, senders: Senders, status: int) -> None:
        now = time.monotonic()

        def is_answered() -> bool:
            since = [answer.status for answer in senders.answers if answer.began > now]
            return since[-5:] == [status] * 5

        eventually(is_answered, 60, f"answers {status}")

    def has_all_since(self, senders: Senders, since: float) -> bool:
        """Tell whether every partition has taken an event that was sent after a moment."""
        accepted = [answer for answer in senders.accepted if answer.began > since]
        return len({answer.place[0] for answer in accepted if answer.place}) == PARTITIONS

    def hold(self, senders: Senders, proof: Proof) -> None:
        """Demand that every answer was true, that nothing is lost or doubled, nobody restarted."""
        hold_promises(senders.answers, self.cluster.direct, self.topic)
        hold_invariants(self.fleet, [h for stream in self.streams for h in stream.known])
        proof.count(accepted=len(senders.accepted), refused=len(senders.refused))
        self.fleet.all_ready()
        assert pids(self.fleet) == self.started


@pytest.fixture
def site(
    tmp_path: Path,
    cluster: Cluster,
    database_url: str,
    redis_url: str,
) -> Iterator[Site]:
    """Provide a deployment with a topic and a group of its own, no process started yet."""
    topic = f"events-{tmp_path.name}"
    cluster.make_topic(topic)
    variables = environment(
        tmp_path,
        cluster.direct,
        database_url,
        redis_url,
        HOOKLINE_KAFKA_TOPIC=topic,
        HOOKLINE_KAFKA_GROUP=topic,
    )
    fleet = Fleet(tmp_path, variables)
    yield Site(cluster, fleet, topic)
    for member in fleet.members.values():
        member.process.kill()
    cluster.heal(topic)
    cluster.drop_topic(topic)


@pytest.mark.long_run
def test_11_rolling_restart(site: Site, proof: Proof) -> None:
    """One broker after the other is restarted in order: nobody is refused, nothing rebalances."""
    site.start()
    logs = {name: len(site.fleet.log(name)) for name in CONSUMERS}
    with site.senders("11") as senders:
        for _ in proof.track(range(examples(5, 1)), examples(5, 1)):
            for place in ALL:
                site.cluster.brokers[place].stop()
                site.cluster.start(place)
                site.cluster.wait_in_sync(site.topic)
                proof.count(restarts=1)
    assert senders.refused == []
    for name, length in logs.items():
        assert "partitions_released" not in site.fleet.log(name)[length:]
    site.hold(senders, proof)


@pytest.mark.parametrize("role", examples(["leader", "coordinator"], ["leader"]))
def test_12_killed(site: Site, proof: Proof, role: str) -> None:
    """The broker that leads partitions, or the group, is killed: others take over in time."""
    site.start()
    for _ in proof.track(range(examples(5, 1)), examples(5, 1)):
        with site.senders(f"12 {role}") as senders:
            site.accept(senders)
            find = site.cluster.leader if role == "leader" else site.cluster.coordinator
            died_at = time.monotonic()
            site.cluster.kill(find(site.topic))
            eventually(lambda: site.has_all_since(senders, died_at), 60, "all partitions")  # noqa: B023
            proof.count(kills=1, milliseconds_without=int((time.monotonic() - died_at) * 1000))
            site.accept(senders)
        # The consumers too go on without it.
        catch_up(site.fleet, 60)
        site.fleet.all_ready()
        site.cluster.heal(site.topic)
        site.hold(senders, proof)


def test_13_two_of_three_down(site: Site, proof: Proof) -> None:
    """One broker is not enough: 503 in time, readiness says so, all goes on when two are back."""
    site.start()
    with site.senders("13") as senders:
        site.accept(senders)
        site.cluster.kill(0, 1)
        site.refuse(senders)
        eventually(lambda: not is_ready(site.fleet, "ingest"), PROBED_SECONDS, "readiness")
        site.cluster.heal(site.topic)
        site.accept(senders)
    site.hold(senders, proof)


@pytest.mark.long_run
def test_13_below_the_in_sync_minimum(site: Site, proof: Proof) -> None:
    """With too few replicas in sync nothing is accepted, although there are leaders."""
    site.start()
    site.cluster.set_least_in_sync(site.topic, 3)
    with site.senders("13 in sync") as senders:
        site.accept(senders)
        site.cluster.kill(2)
        site.refuse(senders)
        eventually(lambda: not is_ready(site.fleet, "ingest"), PROBED_SECONDS, "readiness")
        site.cluster.heal(site.topic)
        site.accept(senders)
    site.hold(senders, proof)


@pytest.mark.long_run
def test_12_questions_find_another_broker(site: Site, proof: Proof) -> None:
    """Clients that ask beside the records do not keep to a broker that is dead."""
    settings = GroupSettings(kafka_bootstrap=site.cluster.direct, kafka_topic=site.topic)
    # Each takes one of the three for the controller, by chance.
    clients = [Questions(settings) for _ in range(10)]
    for gone in examples(list(ALL), [2]):
        assert all(client.topic_id() for client in clients)
        site.cluster.kill(gone)
        for client in clients:
            eventually(lambda: is_answered(client), 30, "an answer of the others")  # noqa: B023
        site.cluster.heal(site.topic)
        proof.count(clients=len(clients))


def is_answered(client: Questions) -> bool:
    """Tell whether a question is answered now."""
    try:
        return bool(client.topic_id())
    except Retry:
        return False


CUTS = {
    "to the brokers": (Way.TO_SERVER,),
    "to the consumers": (Way.TO_CLIENT,),
    "both ways": tuple(Way),
}


@pytest.mark.long_run
@pytest.mark.parametrize("ways", list(CUTS))
def test_14_consumers_cut_off(site: Site, proof: Proof, ways: str) -> None:
    """Cut off from the brokers, consumers stand still, and go on where they were once healed."""
    site.start(consumers=site.cluster.proxied)
    with site.senders(f"14 {ways}") as senders:
        site.accept(senders)
        for proxy in site.cluster.proxies:
            proxy.stall(*CUTS[ways])
        eventually(lambda: site.cluster.members(site.topic) == 0, 60, "the session's end")
        stand = positions(site.fleet)
        site.accept(senders)
        assert positions(site.fleet) == stand
        for proxy in site.cluster.proxies:
            proxy.heal()
    proof.count(cuts=1)
    site.hold(senders, proof)


@pytest.mark.long_run
def test_14_connections_cut_again_and_again(site: Site, proof: Proof) -> None:
    """With every connection cut each second, ingest's too, all goes on, and never backwards."""
    site.start(ingest=site.cluster.proxied, consumers=site.cluster.proxied)
    applied: dict[int, int] = {}
    with site.senders("14 cuts") as senders:
        for _ in proof.track(range(examples(60, 5)), examples(60, 5)):
            time.sleep(proof.random.uniform(0.5, 1.5))
            proof.count(cuts=sum(proxy.reset() for proxy in site.cluster.proxies))
            now = positions(site.fleet)
            assert all(now[partition] >= offset for partition, offset in applied.items())
            applied = now
    site.hold(senders, proof)


@pytest.mark.long_run
def test_14_half_a_second_of_delay(site: Site, proof: Proof) -> None:
    """Half a second on each answer of the brokers costs time, and refuses nobody."""
    site.start(ingest=site.cluster.proxied, consumers=site.cluster.proxied)
    for proxy in site.cluster.proxies:
        proxy.delay(0.5)
    with site.senders("14 delay") as senders:
        eventually(lambda: len(senders.accepted) > examples(500, 50), 120, "acceptance")
    assert senders.refused == []
    for proxy in site.cluster.proxies:
        proxy.heal()
    site.hold(senders, proof)


def test_lost_acknowledgements(site: Site, proof: Proof) -> None:
    """What stands in the log and is not known to, is a 503; sent again it has its effect once."""
    site.start(ingest=site.cluster.proxied)
    with site.senders("lost") as senders:
        site.accept(senders)
        for proxy in site.cluster.proxies:
            proxy.stall(Way.TO_CLIENT)
        site.refuse(senders)
        eventually(lambda: not is_ready(site.fleet, "ingest"), PROBED_SECONDS, "readiness")
        for proxy in site.cluster.proxies:
            proxy.cut()
            proxy.heal()
        site.accept(senders)
    stands = Counter(logged(site.cluster.direct, site.topic).values())
    twice = [event_id for event_id, copies in stands.items() if copies > 1]
    assert set(twice) & {answer.event_id for answer in senders.refused}
    proof.count(events_in_the_log_more_than_once=len(twice))
    site.hold(senders, proof)


@pytest.mark.long_run
@pytest.mark.parametrize("turn", range(10))
def test_killed_between_produce_and_acknowledgement(site: Site, proof: Proof, turn: int) -> None:
    """A leader that dies with what it has not acknowledged makes no 200 that is not true."""
    site.start(ingest=site.cluster.proxied)
    with site.senders(f"between {turn}") as senders:
        site.accept(senders)
        leader = site.cluster.leader(site.topic)
        before = len(logged(site.cluster.direct, site.topic))
        site.cluster.proxies[leader].stall(Way.TO_CLIENT)
        eventually(lambda: len(logged(site.cluster.direct, site.topic)) > before, what="a record")
        site.cluster.kill(leader)
        site.cluster.proxies[leader].cut()
        site.cluster.proxies[leader].heal()
        site.accept(senders)
        site.cluster.heal(site.topic)
    proof.count(kills=1)
    site.hold(senders, proof)


FLOODS = {
    "too_many_waiting": (MAX_WAITING + 100, 0),
    "queue_full": (QUEUE_KIB * 1024 // MAX_BODY_BYTES + 100, MAX_BODY_BYTES - 16_000),
}
"""By the reason of the refusal: how many connections send, and how many bytes are added."""


@pytest.mark.long_run
@pytest.mark.parametrize("reason", list(FLOODS))
def test_more_than_may_wait(site: Site, proof: Proof, reason: str) -> None:
    """While the brokers say nothing, what is past the limits is refused, and nothing breaks."""
    sockets, padding = FLOODS[reason]
    site.start(ingest=site.cluster.proxied)
    with site.senders(f"flood {reason}") as senders:
        site.accept(senders)
        for proxy in site.cluster.proxies:
            proxy.stall()
        content = site.streams[0].known[0].events[0].body
        content = content[:-1] + b',"padding":"' + b"x" * padding + b'"}'
        port = int(site.fleet.variables["HOOKLINE_INGEST_PORT"])
        answers = asyncio.run(flood(port, content, sockets, lambda: refused(site, reason) > 20))
        for proxy in site.cluster.proxies:
            proxy.heal()
        site.accept(senders)
    assert {answer for answer in answers if answer[0] != 200} == {(503, True)}
    proof.count(flood=answers.total(), past_the_limit=int(refused(site, reason)))
    site.hold(senders, proof)


def refused(site: Site, reason: str) -> float:
    """Return how many requests ingest has answered 503 for a reason."""
    found = counted(site.fleet.metrics("ingest"), "hookline_ingest_requests_total")
    return found.get(f'answer="503",reason="{reason}"', 0)


LIVE = {"HOOKLINE_LIVEMODE": "live"}


def test_live_mode_wants_copies(site: Site) -> None:
    """Live, ingest is ready with three replicas of which two must be in sync, and with no less."""
    site.fleet.spawn("ingest", **LIVE)
    site.fleet.all_ready()
    site.cluster.set_least_in_sync(site.topic, 1)
    wait_for_problem(site, "live mode needs replication 3 and min.insync.replicas 2")
    site.cluster.set_least_in_sync(site.topic, 3)
    eventually(lambda: is_ready(site.fleet, "ingest"), PROBED_SECONDS, "readiness")
    site.cluster.kill(2)
    wait_for_problem(site, "2 replicas of a partition are in sync, and 3 must be")
    site.cluster.heal(site.topic)
    eventually(lambda: is_ready(site.fleet, "ingest"), PROBED_SECONDS, "readiness")


def wait_for_problem(site: Site, text: str) -> None:
    """Wait until ingest is not ready, for this reason."""

    def is_said() -> bool:
        status, document = site.fleet.readiness("ingest")
        return status == httpx.codes.SERVICE_UNAVAILABLE and text in document["checks"]["kafka"]

    eventually(is_said, PROBED_SECONDS + SESSION_SECONDS, "readiness saying so")
