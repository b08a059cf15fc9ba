"""hookline's own processes in a test, and what they are told."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, LiteralString

import httpx2 as httpx
import psycopg

from ops.embedded.ports import free_ports
from ops.up import Member
from schemas.signature import sign
from support.outputs import COMMANDS
from support.stripe import Json, body

SECRET = "whsec_test_secret"
PLANS_TEXT = """
tiers = ["starter", "pro", "enterprise"]
default = "starter"
[prices]
price_pro = "pro"
price_ent = "enterprise"
[lookup_keys]
starter_monthly = "starter"
pro_monthly = "pro"
enterprise_monthly = "enterprise"
"""


def environment(
    folder: Path, bootstrap: str, database_url: str, redis_url: str, **more: str
) -> dict[str, str]:
    """Return the variables of a deployment in a folder."""
    plans = folder / "plans.toml"
    plans.write_text(PLANS_TEXT)
    ingest, ingest_admin, keeper, keeper_admin = map(str, free_ports(4))
    return {
        "HOOKLINE_KAFKA_BOOTSTRAP": bootstrap,
        "HOOKLINE_KAFKA_TOPIC": "stripe.events",
        "HOOKLINE_KAFKA_GROUP": "hookline",
        "HOOKLINE_DATABASE_URL": database_url,
        "HOOKLINE_REDIS_URL": redis_url,
        "HOOKLINE_WEBHOOK_SECRETS": SECRET,
        "HOOKLINE_LIVEMODE": "test",
        "HOOKLINE_PLANS_FILE": str(plans),
        "HOOKLINE_INGEST_PORT": ingest,
        "HOOKLINE_INGEST_ADMIN_PORT": ingest_admin,
        "HOOKLINE_GATEKEEPER_PORT": keeper,
        "HOOKLINE_GATEKEEPER_ADMIN_PORT": keeper_admin,
        "HOOKLINE_INGEST_URL": f"http://127.0.0.1:{ingest}",
        "HOOKLINE_GATEKEEPER_URL": f"http://127.0.0.1:{keeper}",
        **more,
    }


@dataclass
class Pipeline:
    """Processes of one deployment; to be used from the test's own thread."""

    folder: Path
    variables: Mapping[str, str]
    members: dict[str, Member] = field(default_factory=dict)

    def start(self, *names: str) -> None:
        """Start processes, `ingest`, `gatekeeper` or `consumer-N`, and wait until all are ready."""
        started = [self.launch(name) for name in names]
        for member in started:
            member.wait_ready()

    def stop(self) -> None:
        """Stop all in order."""
        for member in self.members.values():
            member.process.stop()

    def metrics(self, name: str) -> str:
        """Return a process's metrics page."""
        port = self.members[name].port
        return httpx.get(f"http://127.0.0.1:{port}/metrics").text

    def readiness(self, name: str) -> tuple[int, Any]:
        """Return status and document of a process's `/readyz`."""
        answer = httpx.get(f"http://127.0.0.1:{self.members[name].port}/readyz")
        return answer.status_code, answer.json()

    def post(self, document: Json, *, client: httpx.Client | None = None) -> httpx.Response:
        """Sign an event and send it to ingest."""
        content = body(document)
        headers = {"stripe-signature": sign(content, SECRET, int(time.time()))}
        url = self.variables["HOOKLINE_INGEST_URL"] + "/webhooks/stripe"
        post = client.post if client else httpx.post
        return post(url, content=content, headers=headers, timeout=20)

    def post_all(self, documents: list[Json], threads: int = 8) -> list[int]:
        """Send events side by side; returns the answers in order, 0 where none came."""
        with httpx.Client() as client, ThreadPoolExecutor(threads) as pool:

            def send(document: Json) -> int:
                try:
                    return self.post(document, client=client).status_code
                except httpx.HTTPError:
                    return 0

            return list(pool.map(send, documents))

    def query(self, statement: str) -> list[Any]:
        """Ask the database."""
        with psycopg.connect(self.variables["HOOKLINE_DATABASE_URL"]) as connection:
            return connection.execute(statement).fetchall()

    def execute(self, statement: LiteralString, *values: object) -> None:
        """Change the database behind everybody's back."""
        with psycopg.connect(self.variables["HOOKLINE_DATABASE_URL"]) as connection:
            connection.execute(statement, values)

    def launch(self, name: str) -> Member:
        """Start a process without waiting for it."""
        command, setting = {
            "ingest": ("ingest", "HOOKLINE_INGEST_ADMIN_PORT"),
            "gatekeeper": ("gatekeeper", "HOOKLINE_GATEKEEPER_ADMIN_PORT"),
        }.get(name, ("consume", "HOOKLINE_CONSUMER_ADMIN_PORT"))
        port = int(self.variables.get(setting) or free_ports(1)[0])
        member = Member(name, command, port, setting, self.folder, **self.variables)
        self.members[name] = member
        member.spawn()
        return member


def recorded(pipeline: Pipeline) -> int:
    """Return how many events stand recorded."""
    return int(pipeline.query("SELECT count(*) FROM webhook_events")[0][0])


def counted(metrics: str, name: str) -> dict[str, float]:
    """Return a metric's values by their labels."""
    found = re.findall(rf"^{name}(?:\{{(.*)\}})? (\S+)$", metrics, re.MULTILINE)
    return {labels: float(value) for labels, value in found}


def pids(pipeline: Pipeline) -> dict[str, int]:
    """Return the process of each member: the same ones must be there after a fault."""
    return {name: member.process.pid for name, member in pipeline.members.items()}


def owned(pipeline: Pipeline, name: str) -> float:
    """Return how many partitions a consumer owns."""
    return counted(pipeline.metrics(name), "hookline_consumer_partitions")[""]


def is_ready(pipeline: Pipeline, name: str) -> bool:
    """Tell whether a process is ready."""
    return pipeline.readiness(name)[0] == httpx.codes.OK


def log_of(pipeline: Pipeline, name: str) -> str:
    """Return a process's log so far."""
    return pipeline.members[name].process.log.read_text()


def hookline(pipeline: Pipeline, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
    """Run a command as a person would; what it prints is bytes, and kept to be searched."""
    done = subprocess.run(  # noqa: S603 - our own command
        [str(Path(sys.executable).parent / "hookline"), *arguments],
        env={**os.environ, **pipeline.variables},
        capture_output=True,
        timeout=120,
        check=False,
    )
    log = pipeline.folder / "logs" / COMMANDS
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        output.write(done.stdout + done.stderr)
    return done
