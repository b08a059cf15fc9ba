"""`hookline doctor` on set-ups that are wrong in one thing each: it names that and the mend."""

import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import psycopg
import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.admin._resource import ResourceType
from redis import Redis

from ops.doctor import command, invariants
from ops.doctor.clocks import look_at_database_clock, look_at_redis_clock
from ops.doctor.examination import examine
from ops.doctor.line import Line, State
from ops.doctor.signing import fingerprint
from ops.doctor.site import Site
from ops.embedded.ports import free_ports
from ops.migrate import migrate
from schemas.settings import DoctorSettings, MigrateSettings, load
from schemas.topics import RETENTION_MS
from support.databases import database
from support.pipeline import SECRET, Pipeline, environment, hookline, recorded
from support.polling import eventually
from support.servers import Servers
from support.stripe import event, subscription
from support.stripe_twin import KEY, StripeTwin, serving
from support.topic import make_topic

OTHER_SECRET = "whsec_another_one"
DAY_MS = 24 * 3600 * 1000
Harm = Callable[[Pipeline], AbstractContextManager[object]]


def doctor(pipeline: Pipeline, **other: str) -> dict[str, list[Line]]:
    """Examine a deployment as told by variables; return the lines by what they are about."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**pipeline.variables, **other}.items():
            patch.setenv(name, value)
        site = Site(load(DoctorSettings))
    try:
        found = list(examine(site))
    finally:
        site.close()
    assert SECRET not in str(found)
    assert OTHER_SECRET not in str(found)
    lines: dict[str, list[Line]] = {}
    for line in found:
        lines.setdefault(line.about, []).append(line)
    return lines


def not_well(lines: Mapping[str, list[Line]]) -> list[Line]:
    """Return the lines that are red."""
    return [x for some in lines.values() for x in some if x.state in {State.WRONG, State.AWAY}]


@pytest.fixture(scope="module")
def working(
    servers: Servers, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pipeline]:
    """Provide a deployment at work, with an event applied; each test leaves it as it was."""
    folder, name = tmp_path_factory.mktemp("doctor"), f"doctor_{uuid.uuid4().hex[:8]}"
    with database(servers, name, template) as url:
        variables = environment(
            folder, servers.kafka_bootstrap, url, servers.redis_url.rsplit("/", 1)[0] + "/0",
            HOOKLINE_KAFKA_TOPIC=name, HOOKLINE_KAFKA_GROUP=name,
            HOOKLINE_CONSUMER_ADMIN_PORT=str(free_ports(1)[0]),
        )  # fmt: skip
        pipeline = Pipeline(folder, variables)
        with pytest.MonkeyPatch.context() as patch:
            for key, value in variables.items():
                patch.setenv(key, value)
            migrate(load(MigrateSettings))
        pipeline.start("ingest", "consumer-1")
        assert pipeline.post(event("customer.subscription.created", subscription())).is_success
        eventually(lambda: recorded(pipeline) == 1, what="applying the event")
        yield pipeline
        pipeline.stop()


def test_a_deployment_that_works_is_green_by_facts(working: Pipeline) -> None:
    """Nothing is left out: versions, counts, fingerprints, settings; exit code 0, no secret."""
    lines = doctor(working)
    assert not_well(lines) == []
    unknown = [about for about, some in lines.items() if some[0].state == State.UNKNOWN]
    assert unknown == ["backfill"]
    assert "never completed" in lines["backfill"][0].says
    facts = {
        "kafka": "HOOKLINE_KAFKA_BOOTSTRAP", "topic": "12 partitions", "retention": "14 days",
        "group": "1 consumer", "postgresql": "HOOKLINE_DATABASE_URL", "redis": "HOOKLINE_REDIS_URL",
        "memory": "noeviction", "positions": "12 positions", "lag": "nothing waits",
        "secret 1": fingerprint(SECRET), "mode": "test", "plans": "HOOKLINE_PLANS_FILE",
        "prices": "1 price", "tiers": "starter, pro, enterprise", "clock": "PostgreSQL",
        "ingest": "is ready", "consumer": "breaker closed",
    }  # fmt: skip
    for about, fact in facts.items():
        assert fact in lines[about][0].says, (about, lines[about])
    shown = hookline(working, "doctor")
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert b"nothing wrong, 1 not checked" in shown.stdout
    assert len(shown.stdout.splitlines()) == 1 + sum(map(len, lines.values()))
    assert SECRET.encode() not in shown.stdout + shown.stderr


@dataclass(frozen=True)
class Case:
    """A set-up that is wrong in one thing: how, and which line must say so."""

    about: str
    says: str
    mend: str
    variables: Mapping[str, str] | None = None
    harm: Harm = lambda _pipeline: nullcontext()
    also: tuple[str, ...] = ()
    """Lines that the same fault turns red as well."""


@contextmanager
def evicting(pipeline: Pipeline) -> Iterator[None]:
    """Let Redis evict for a while."""
    with Redis.from_url(pipeline.variables["HOOKLINE_REDIS_URL"]) as redis:
        redis.config_set("maxmemory-policy", "allkeys-lru")
        try:
            yield
        finally:
            redis.config_set("maxmemory-policy", "noeviction")


@contextmanager
def short_retention(pipeline: Pipeline) -> Iterator[None]:
    """Let the topic keep its records for six days."""
    _set_retention(pipeline, 6 * DAY_MS)
    yield
    _set_retention(pipeline, RETENTION_MS)


def _set_retention(pipeline: Pipeline, milliseconds: int) -> None:
    admin = AdminClient({"bootstrap.servers": pipeline.variables["HOOKLINE_KAFKA_BOOTSTRAP"]})
    entry = ConfigEntry(
        "retention.ms", str(milliseconds), incremental_operation=AlterConfigOpType.SET
    )
    name = pipeline.variables["HOOKLINE_KAFKA_TOPIC"]
    topic = ConfigResource(ResourceType.TOPIC, name, incremental_configs=[entry])
    admin.incremental_alter_configs([topic])[topic].result()


@contextmanager
def an_earlier_migration(pipeline: Pipeline) -> Iterator[None]:
    """Let the database look as one that is a migration behind."""
    ((right,),) = pipeline.query("SELECT version_num FROM alembic_version")
    pipeline.execute("UPDATE alembic_version SET version_num = '0002'")
    yield
    pipeline.execute("UPDATE alembic_version SET version_num = %s", right)


@contextmanager
def an_unmapped_price(pipeline: Pipeline) -> Iterator[None]:
    """Sell something that the plans file does not know."""
    bought = subscription(prices=("price_new",), customer="cus_unmapped", id="sub_unmapped")
    before = recorded(pipeline)
    assert pipeline.post(event("customer.subscription.created", bought)).is_success
    eventually(lambda: recorded(pipeline) == before + 1, what="applying the event")
    yield
    pipeline.execute("DELETE FROM subscriptions WHERE subscription_id = 'sub_unmapped'")


@contextmanager
def nobody(pipeline: Pipeline) -> Iterator[None]:
    """Let no consumer be there."""
    consumer = pipeline.members["consumer-1"]
    consumer.process.stop()
    yield
    consumer.spawn()
    consumer.wait_ready()


CASES = {
    "port of Kafka": Case(
        "kafka", "no broker answers at 127.0.0.1:1", "HOOKLINE_KAFKA_BOOTSTRAP",
        {"HOOKLINE_KAFKA_BOOTSTRAP": "127.0.0.1:1"},
    ),
    "port of PostgreSQL": Case(
        "postgresql", "Connection refused", "HOOKLINE_DATABASE_URL",
        {"HOOKLINE_DATABASE_URL": "postgresql://a:b@127.0.0.1:1/c"},
    ),
    "port of Redis": Case(
        "redis", "Redis does not answer", "HOOKLINE_REDIS_URL",
        {"HOOKLINE_REDIS_URL": "redis://127.0.0.1:1/0"},
    ),
    "missing migration": Case(
        "migrations", "is at 0002, this version needs", "hookline migrate",
        harm=an_earlier_migration,
    ),
    "no such topic": Case(
        "topic", "there is no topic no.such", "hookline migrate",
        {"HOOKLINE_KAFKA_TOPIC": "no.such"},
    ),
    "replication in live mode": Case(
        "replication", "replication 1, 1 in sync", "HOOKLINE_ALLOW_SINGLE_BROKER",
        {"HOOKLINE_LIVEMODE": "live"}, also=("mode",),
    ),
    "unmapped price": Case(
        "prices", "price_new", "[prices]", harm=an_unmapped_price,
    ),
    "wrong mode": Case(
        "mode", "are of test mode, and HOOKLINE_LIVEMODE is live",
        "HOOKLINE_LIVEMODE=test",
        {"HOOKLINE_LIVEMODE": "live", "HOOKLINE_ALLOW_SINGLE_BROKER": "true"},
    ),
    "evicting Redis": Case(
        "memory", "maxmemory-policy is allkeys-lru", "noeviction", harm=evicting,
    ),
    "a secret that never matched": Case(
        "secret 2", f"{fingerprint(OTHER_SECRET)}; has signed none", "HOOKLINE_WEBHOOK_SECRETS",
        {"HOOKLINE_WEBHOOK_SECRETS": f"{SECRET},{OTHER_SECRET}"},
    ),
    "a dropped secret": Case(
        "signatures", "are signed with none of these secrets", "HOOKLINE_RETIRED_SECRETS",
        {"HOOKLINE_WEBHOOK_SECRETS": OTHER_SECRET}, also=("secret 1",),
    ),
    "short retention": Case(
        "retention", "for 6 days, less than 7 days", "retention.ms=", harm=short_retention,
    ),
    "consumer absent": Case("group", "no consumer of the group", "hookline consume", harm=nobody),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_is_wrong_is_named_with_what_mends_it(working: Pipeline, case: Case) -> None:
    """One thing is wrong: its line says what and how to mend it, and no other line is red."""
    with case.harm(working):
        red = not_well(doctor(working, **(case.variables or {})))
    assert {line.about for line in red} == {case.about, *case.also}, red
    (line,) = (line for line in red if line.about == case.about)
    assert case.says in line.says
    assert case.mend in str(line)


@pytest.mark.parametrize(
    ("variables", "code"),
    [({"HOOKLINE_PLANS_FILE": "/no/such"}, 3), ({"HOOKLINE_REDIS_URL": "redis://[::1]:1/0"}, 1)],
)
def test_the_exit_code_tells_what_kind_of_fault(
    working: Pipeline,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variables: dict[str, str],
    code: int,
) -> None:
    """Something is wrong: 3; a server is away: 1; the document says that all is not well."""
    for name, value in {**working.variables, **variables}.items():
        monkeypatch.setenv(name, value)
    options = command.Options(
        is_check=False,
        invariants=invariants.Options(0, 0, (), ()),
        webhook_url=None,
        as_json=True,
    )
    assert command.run(lambda: load(DoctorSettings), options) == code
    assert json.loads(capsys.readouterr().out)["well"] is False


def test_where_stripe_sends_to(working: Pipeline) -> None:
    """With a key Stripe is asked: the wrong address is named, and the right one is green."""
    twin = StripeTwin(now=int(time.time()))
    with serving(twin) as base:
        key = {"HOOKLINE_STRIPE_API_KEY": KEY, "HOOKLINE_STRIPE_API_BASE": base}
        twin.endpoints = [_endpoint("https://old.example.com/stripe")]
        red = not_well(doctor(working, **key))
        twin.now += 1
        twin.endpoints = [_endpoint("https://pay.example.com/webhooks/stripe")]
        green = doctor(working, **key)
        twin.forbidden = {"/v1/webhook_endpoints"}
        refused = not_well(doctor(working, **key))
    assert [line.about for line in red] == ["endpoint"]
    assert "it sends to: old.example.com/stripe" in red[0].says
    assert "mend the URL" in str(red[0].mend)
    assert not_well(green) == []
    assert "to pay.example.com/webhooks/stripe" in green["endpoint"][0].says
    assert ["Webhook Endpoints" in line.says for line in refused] == [True]


def _endpoint(url: str) -> dict[str, object]:
    return {"id": "we_1", "url": url, "status": "enabled", "enabled_events": ["*"]}


def test_a_topic_of_one_partition(working: Pipeline) -> None:
    """A topic made with one partition is told as one that only one consumer can work on."""
    name = working.variables["HOOKLINE_KAFKA_TOPIC"] + "-one"
    admin = AdminClient({"bootstrap.servers": working.variables["HOOKLINE_KAFKA_BOOTSTRAP"]})
    make_topic(admin, name, partitions=1)
    try:
        (line,) = doctor(working, HOOKLINE_KAFKA_TOPIC=name)["topic"]
    finally:
        admin.delete_topics([name])[name].result()
    assert line.state == State.WRONG
    assert "1 partition: only one consumer can work" in line.says
    assert "hookline migrate" in str(line.mend)


def test_an_ingest_in_the_wrong_mode_is_told_by_what_it_ignores(pipeline: Pipeline) -> None:
    """Nothing is in the topic that could tell: ingest has ignored all that came."""
    other = {"HOOKLINE_LIVEMODE": "live", "HOOKLINE_ALLOW_SINGLE_BROKER": "true"}
    live = Pipeline(pipeline.folder, {**pipeline.variables, **other})
    live.start("ingest")
    try:
        answer = live.post(event("customer.subscription.created", subscription()))
        assert answer.json() == {"status": "ignored", "reason": "other_mode"}
        line = doctor(live)["mode"][-1]
    finally:
        live.stop()
    assert line.state == State.WRONG
    assert "all 1 events that came since ingest started are of test mode" in line.says
    assert "HOOKLINE_LIVEMODE=test" in str(line.mend)


def test_a_database_without_tables(pipeline: Pipeline) -> None:
    """A database that was never migrated is told as such, and what needs tables is left out."""
    with psycopg.connect(pipeline.variables["HOOKLINE_DATABASE_URL"]) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    lines = doctor(pipeline)
    assert lines["migrations"][0].says == "the database has no tables"
    assert lines["migrations"][0].mend == "hookline migrate"
    assert lines["positions"][0].says == lines["prices"][0].says == "needs migrations"


@pytest.mark.parametrize("off", [-90.0, 1.5, 90.0])
def test_a_clock_that_is_off(
    working: Pipeline, monkeypatch: pytest.MonkeyPatch, off: float
) -> None:
    """This machine's clock is off: both servers' lines say by how much, and NTP mends it."""
    for name, value in working.variables.items():
        monkeypatch.setenv(name, value)
    site = Site(load(DoctorSettings), clock=lambda: time.time() + off)
    lines = [*look_at_database_clock(site), *look_at_redis_clock(site)]
    site.close()
    assert [line.state for line in lines] == [State.WRONG, State.WRONG]
    for name, line in zip(("PostgreSQL", "Redis"), lines, strict=True):
        where = "behind" if off > 0 else "ahead of"
        assert line.says == f"{name} is {abs(off):.1f} s {where} this machine"
        assert "NTP" in str(line.mend)
