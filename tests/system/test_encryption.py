"""TLS and passwords on all three links: what is right works, what is wrong is one sentence."""

import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2 as httpx
import pytest

from ops.embedded.ports import HOST
from support.encrypted import Encrypted, encrypted_servers
from support.pipeline import Pipeline, environment, hookline, is_ready, log_of, recorded
from support.polling import eventually
from support.stripe import event, subscription

pytestmark = pytest.mark.skipif(
    os.environ.get("HOOKLINE_TEST_STACK", "embedded") != "embedded",
    reason="makes certificates for servers of its own",
)

COMMANDS = {
    "migrate": ("migrate",),
    "doctor": ("doctor", "--check", "--wait", "0"),
    "positions": ("positions", "show"),
}
KAFKA_CERTIFICATE = (
    "Kafka's certificate is not accepted: look at HOOKLINE_KAFKA_CA_FILE, which must hold the "
    "authority that signed it, and at HOOKLINE_KAFKA_BOOTSTRAP, which must name the host it is "
    "made for"
)
KAFKA_PASSWORD = (
    "Kafka refuses the user or the password: look at HOOKLINE_KAFKA_SASL_USERNAME and "
    "HOOKLINE_KAFKA_SASL_PASSWORD"
)
POSTGRES_AUTHORITY = (
    "PostgreSQL's certificate is not accepted: look at sslrootcert in HOOKLINE_DATABASE_URL, "
    "which must name the authority that signed it"
)
POSTGRES_NAME = (
    "PostgreSQL's certificate is made for another host: look at the host in HOOKLINE_DATABASE_URL"
)
POSTGRES_PASSWORD = "PostgreSQL refuses the user or the password: look at HOOKLINE_DATABASE_URL"
REDIS_AUTHORITY = (
    "Redis' certificate is not accepted: look at ssl_ca_certs in HOOKLINE_REDIS_URL, which must "
    "name the authority that signed it"
)
REDIS_NAME = "Redis' certificate is made for another host: look at the host in HOOKLINE_REDIS_URL"
REDIS_PASSWORD = "Redis refuses the user or password of HOOKLINE_REDIS_URL"


@dataclass(frozen=True)
class Wrong:
    """One setting with one thing wrong in it, and the sentence that is due."""

    what: str
    setting: str
    sentence: str

    def variables(self, servers: Encrypted) -> dict[str, str]:
        """Return the setting as it is wrong."""
        right = servers.variables[self.setting]
        if self.what == "authority":
            found = servers.certificates
            return {self.setting: right.replace(str(found.authority), str(found.stranger))}
        if self.what == "name":
            return {self.setting: right.replace(HOST, "localhost")}
        password = next(p for p in servers.passwords if p in right)
        return {self.setting: right.replace(password, f"wrong-{password}")}


KAFKA = (
    Wrong("authority", "HOOKLINE_KAFKA_CA_FILE", KAFKA_CERTIFICATE),
    Wrong("name", "HOOKLINE_KAFKA_BOOTSTRAP", KAFKA_CERTIFICATE),
    Wrong("password", "HOOKLINE_KAFKA_SASL_PASSWORD", KAFKA_PASSWORD),
)
POSTGRES = (
    Wrong("authority", "HOOKLINE_DATABASE_URL", POSTGRES_AUTHORITY),
    Wrong("name", "HOOKLINE_DATABASE_URL", POSTGRES_NAME),
    Wrong("password", "HOOKLINE_DATABASE_URL", POSTGRES_PASSWORD),
)
REDIS = (
    Wrong("authority", "HOOKLINE_REDIS_URL", REDIS_AUTHORITY),
    Wrong("name", "HOOKLINE_REDIS_URL", REDIS_NAME),
    Wrong("password", "HOOKLINE_REDIS_URL", REDIS_PASSWORD),
)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encrypted]:
    """Provide encrypted servers, with database and topic made over the encrypted links."""
    folder = tmp_path_factory.mktemp("encrypted")
    with encrypted_servers(folder) as found:
        with deployment(folder, found) as pipeline:
            answer = hookline(pipeline, "migrate")
        assert answer.returncode == 0, answer.stderr.decode()
        yield found


@contextmanager
def deployment(folder: Path, servers: Encrypted, wrong: Wrong | None = None) -> Iterator[Pipeline]:
    """Provide a deployment on the servers, with one setting wrong if told; stops it."""
    own = folder / uuid.uuid4().hex
    own.mkdir()
    more = servers.variables | (wrong.variables(servers) if wrong else {})
    pipeline = Pipeline(own, environment(own, "", "", "") | more)
    try:
        yield pipeline
    finally:
        pipeline.stop()


def test_a_pipeline_runs_over_encrypted_links(servers: Encrypted, tmp_path: Path) -> None:
    """An event is posted, applied and answered with SASL_SSL, verify-full and rediss://."""
    with deployment(tmp_path, servers) as pipeline:
        pipeline.start("ingest", "consumer-1", "gatekeeper")
        document = event("customer.subscription.created", subscription())
        assert pipeline.post(document).status_code == httpx.codes.OK
        eventually(lambda: recorded(pipeline) == 1, what="applying the event")
        ((customer,),) = pipeline.query("SELECT customer_id FROM customers")
        url = pipeline.variables["HOOKLINE_GATEKEEPER_URL"]
        answer = httpx.get(f"{url}/v1/customers/{customer}/entitlement")
        assert (answer.status_code, answer.json()["entitled"]) == (200, True)
        assert pipeline.readiness("consumer-1")[1]["checks"]["redis"] == "ok"
        checked = hookline(pipeline, *COMMANDS["doctor"])
        assert checked.returncode == 0, checked.stderr.decode()
        for name in pipeline.members:
            check_discretion(log_of(pipeline, name), servers)


def test_a_kafka_that_is_closed_is_one_sentence(servers: Encrypted, tmp_path: Path) -> None:
    """Whoever needs Kafka says which setting to look at; ingest answers 503, nobody hangs.

    Side by side, as each command waits for Kafka for some seconds before it gives up.
    """
    with ExitStack() as stack:
        opened = [(w, stack.enter_context(deployment(tmp_path, servers, w))) for w in KAFKA]
        asked = {wrong: [begin(pipeline, n) for n in COMMANDS] for wrong, pipeline in opened}
        for _, pipeline in opened:
            pipeline.launch("ingest")
            pipeline.launch("consumer-1")
        for wrong, pipeline in opened:
            for name in ("ingest", "consumer-1"):
                await_sentence(pipeline, name, "kafka", wrong.sentence)
            answer = pipeline.post(event("customer.subscription.created", subscription()))
            assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
        for wrong, pipeline in opened:
            check_commands(asked[wrong], wrong.sentence, servers)
            check_logs(pipeline, servers)


@pytest.mark.parametrize("wrong", POSTGRES, ids=lambda wrong: wrong.what)
def test_a_postgresql_that_is_closed_is_one_sentence(
    servers: Encrypted, tmp_path: Path, wrong: Wrong
) -> None:
    """Whoever needs PostgreSQL says which setting to look at, and nobody hangs."""
    with deployment(tmp_path, servers, wrong) as pipeline:
        asked = [begin(pipeline, name) for name in COMMANDS]
        pipeline.launch("gatekeeper")
        pipeline.launch("consumer-1")
        for name in ("gatekeeper", "consumer-1"):
            await_sentence(pipeline, name, "postgresql", wrong.sentence)
        check_commands(asked, wrong.sentence, servers)
        check_logs(pipeline, servers)


@pytest.mark.parametrize("wrong", REDIS, ids=lambda wrong: wrong.what)
def test_a_redis_that_is_closed_is_one_sentence(
    servers: Encrypted, tmp_path: Path, wrong: Wrong
) -> None:
    """The consumer leaves at once and the doctor too, each with the setting to look at."""
    with deployment(tmp_path, servers, wrong) as pipeline:
        asked = [begin(pipeline, "doctor")]
        member = pipeline.launch("consumer-1")
        eventually(lambda: not member.is_alive(), what="the consumer's leaving")
        assert wrong.sentence in log_of(pipeline, "consumer-1")
        check_commands(asked, wrong.sentence, servers)
        check_logs(pipeline, servers)


def begin(pipeline: Pipeline, name: str) -> "subprocess.Popen[str]":
    """Start a command without waiting for it."""
    return subprocess.Popen(  # noqa: S603 - our own command
        [str(Path(sys.executable).parent / "hookline"), *COMMANDS[name]],
        env={**os.environ, **pipeline.variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def await_sentence(pipeline: Pipeline, name: str, check: str, sentence: str) -> None:
    """Wait until a process says the sentence for its being not ready."""

    def says() -> bool:
        try:
            return bool(pipeline.readiness(name)[1]["checks"][check] == sentence)
        except httpx.HTTPError:
            return False

    eventually(says, 60, f"{name} saying: {sentence}")
    assert not is_ready(pipeline, name)


def check_commands(asked: "list[subprocess.Popen[str]]", sentence: str, servers: Encrypted) -> None:
    """Demand of each command the sentence, exit code 1 or 2, and nothing secret."""
    for process in asked:
        out, err = process.communicate(timeout=60)
        spoken = [line for line in err.splitlines() if not line.startswith("{")]
        assert process.returncode in {1, 2}, (process.args, out, err)
        assert len(spoken) == 1, (process.args, err)
        assert sentence in spoken[0], (process.args, err)
        # The doctor looks at everything else all the same, and has a line for it.
        assert (sentence in out) == ("doctor" in str(process.args)), (process.args, out)
        check_discretion(out + err, servers)


def check_logs(pipeline: Pipeline, servers: Encrypted) -> None:
    """Demand of each process's log no traceback and nothing secret."""
    for name in pipeline.members:
        check_discretion(log_of(pipeline, name), servers)


def check_discretion(output: str, servers: Encrypted) -> None:
    """Demand that an output holds no traceback and no password."""
    assert not re.search(r"Traceback \(most recent", output), output[-3000:]
    assert not [password for password in servers.passwords if password in output]
