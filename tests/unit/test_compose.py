"""docker-compose.yml, held against Compose's schema, the settings and what it promises."""

import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from consumer.app import STOP_SECONDS
from ingest.publisher import FLUSH_SECONDS
from ops.options import PROCESSES
from ops.servers import DRAIN_SECONDS
from schemas.plans import load_plans
from schemas.settings import (
    PREFIX,
    ConsumerSettings,
    GatekeeperSettings,
    IngestSettings,
    MigrateSettings,
    ProcessSettings,
    holds_secret,
    load,
)
from support.compose import IMAGE, ROOT, make_secrets, our_services, read_compose, variables
from support.dockerfile import read_steps

COMPOSE = read_compose()
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = our_services(COMPOSE)
SERVERS = sorted(SERVICES.keys() - OURS)
RUNNING = [name for name, service in SERVICES.items() if service["restart"] != "no"]
EXACT = re.compile(r"(postgres:\d+\.\d+|[a-z/]+:v?\d+\.\d+\.\d+)(-[a-z]+)?")

PROMISES: dict[str, Callable[[dict[str, Any]], bool]] = {
    "an exact version": lambda s: EXACT.fullmatch(s["image"]) is not None,
    "a user by number, not root": lambda s: (
        re.fullmatch(r"[1-9]\d*:[1-9]\d*", s["user"]) is not None
    ),
    "a root that is read only": lambda s: s["read_only"] is True,
    "no capability": lambda s: (
        s["cap_drop"] == ["ALL"]
        and not s.keys() & {"cap_add", "privileged", "devices", "network_mode", "pid", "ipc"}
    ),
    "no new privileges": lambda s: s["security_opt"] == ["no-new-privileges:true"],
    "bounded memory": lambda s: bool(s.get("mem_limit")),
    "bounded processes": lambda s: 0 < s["pids_limit"] <= 512,
    "a bounded log": lambda s: s["logging"] == {"driver": "local"},
    "bounded folders in memory": lambda s: all("size=" in entry for entry in s.get("tmpfs", [])),
    "a name of Compose's own": lambda s: "container_name" not in s,
    "a network it names": lambda s: bool(s["networks"]),
}


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """Provide the secrets as the script makes them."""
    return make_secrets(tmp_path)


def settings_of(
    name: str, secrets: Path, monkeypatch: pytest.MonkeyPatch, **shell: str
) -> ProcessSettings:
    """Load the settings of one of our services as its container would."""
    compose = read_compose(shell)
    service = compose["services"][name]
    for variable in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(variable)
    for variable, value in variables(compose, service, secrets).items():
        monkeypatch.setenv(variable, value)
    return load(PROCESSES[service["command"][0]])


def kinds_of(name: str) -> dict[str, bool]:
    """Return the variables that a service's process reads, and whether each is a secret."""
    fields = PROCESSES[OURS[name]["command"][0]].model_fields.items()
    return {f"{PREFIX}{field}".upper(): holds_secret(kind) for field, kind in fields}


def test_compose_reads_it() -> None:
    """The file is valid by the specification's own schema."""
    command = ["check_jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml"]
    answer = subprocess.run(  # noqa: S603 - our own file
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stdout


def test_every_part_is_there() -> None:
    """Servers, our four processes, and what watches them."""
    assert SERVERS == ["grafana", "kafka", "postgres", "prometheus", "valkey"]
    commands = {name: service["command"] for name, service in OURS.items()}
    assert commands == {
        "migrate": ["migrate"],
        "ingest": ["ingest"],
        "consumer": ["consume"],
        "gatekeeper": ["gatekeeper"],
    }


@pytest.mark.parametrize("promise", PROMISES)
@pytest.mark.parametrize("name", SERVICES)
def test_every_service_keeps_every_promise(name: str, promise: str) -> None:
    """Each container is pinned, not root, read only, without rights, and bounded."""
    assert PROMISES[promise](SERVICES[name])


@pytest.mark.parametrize("name", RUNNING)
def test_what_runs_says_whether_it_is_well(name: str) -> None:
    """A service that stays up has a health check within bounds, and comes back by itself."""
    health = SERVICES[name]["healthcheck"]
    assert health["test"][0] in {"CMD", "CMD-SHELL"}
    assert health.keys() >= {"interval", "timeout", "retries", "start_period"}
    assert SERVICES[name]["restart"] == "unless-stopped"


def test_one_service_builds_the_image_and_no_registry_is_asked_for_it() -> None:
    """Our image is of this version and of this tree, for every service that runs it."""
    assert {service["image"] for service in OURS.values()} == {IMAGE + version("hookline")}
    assert {name: s["pull_policy"] for name, s in OURS.items()} == {
        "migrate": "build",
        "ingest": "never",
        "consumer": "never",
        "gatekeeper": "never",
    }
    build = OURS["migrate"]["build"]
    assert (ROOT / build["context"] / build["dockerfile"]).is_file()
    assert [name for name, service in SERVICES.items() if "build" in service] == ["migrate"]
    steps = dict(read_steps((ROOT / build["dockerfile"]).read_text()))
    assert {service["user"] for service in OURS.values()} == {steps["USER"]}


@pytest.mark.parametrize("name", OURS)
def test_our_processes_may_finish_what_they_hold(name: str) -> None:
    """Docker kills a process only after the process itself would have given up."""
    longest = max(STOP_SECONDS, DRAIN_SECONDS + FLUSH_SECONDS)
    assert int(OURS[name]["stop_grace_period"].removesuffix("s")) > longest


def test_ports_are_published_on_loopback_alone() -> None:
    """Nobody else on the network reaches a container; admin ports and servers, nobody at all."""
    published = {}
    for name, service in SERVICES.items():
        for port in service.get("ports", []):
            host, outside, inside = port.split(":")
            assert ip_address(host).is_loopback, port
            published[name] = (int(outside), int(inside))
    assert published == {
        "ingest": (8080, 8080),
        "gatekeeper": (8081, 8081),
        "prometheus": (9090, 9090),
        "grafana": (3000, 3000),
    }


def test_there_may_be_many_consumers() -> None:
    """`--scale consumer=3` collides with nothing: no name, no port, no member id of its own."""
    consumer = SERVICES["consumer"]
    assert not consumer.keys() & {"container_name", "ports", "hostname", "deploy"}
    assert "HOOKLINE_KAFKA_GROUP_INSTANCE_ID" not in consumer["environment"]


def named(service: dict[str, Any]) -> list[str]:
    """Return the service's volumes that Docker keeps."""
    return [volume for volume in service.get("volumes", []) if not volume.startswith("./")]


def references() -> Iterator[tuple[str, str]]:
    """Yield each volume, network, config and secret that a service names."""
    for service in SERVICES.values():
        yield from (("volumes", volume.partition(":")[0]) for volume in named(service))
        yield from (("networks", name) for name in service["networks"])
        yield from (("configs", config["source"]) for config in service.get("configs", []))
        yield from (("secrets", name) for name in service.get("secrets", []))


def test_folders_of_the_repository_are_read_only() -> None:
    """Rules and dashboards are where the programs look for them, and nobody writes to them."""
    folders = {v for s in SERVICES.values() for v in s.get("volumes", []) if v.startswith("./")}
    for source, target, mode in (folder.split(":") for folder in folders):
        assert (ROOT / source).is_dir()
        assert mode == "ro", target


@pytest.mark.parametrize("kind", ["volumes", "networks", "configs", "secrets"])
def test_what_is_named_is_defined_and_used(kind: str) -> None:
    """No service names what is not there, and nothing is left over; data is in named volumes."""
    assert set(COMPOSE[kind]) == {name for found, name in references() if found == kind}


def test_every_mounted_file_is_in_the_repository() -> None:
    """Docker would make a folder of a file that is missing."""
    files = [ROOT / config["file"] for config in COMPOSE["configs"].values()]
    assert [path for path in files if not path.is_file()] == []


def test_servers_stand_where_the_world_is_not() -> None:
    """The network of Kafka, PostgreSQL and Valkey has no way out, and they are on no other."""
    assert COMPOSE["networks"]["backend"] == {"internal": True}
    for name in ("kafka", "postgres", "valkey", "migrate", "consumer"):
        assert SERVICES[name]["networks"] == ["backend"], name


@pytest.mark.parametrize("name", SERVICES)
def test_nothing_starts_before_what_it_needs_is_well(name: str) -> None:
    """A dependency is awaited until healthy, and the migration until it has succeeded."""
    for needed, how in SERVICES[name].get("depends_on", {}).items():
        expected = "service_healthy" if needed in RUNNING else "service_completed_successfully"
        assert how == {"condition": expected}, needed


@pytest.mark.parametrize("name", OURS)
def test_a_process_waits_for_each_server_that_it_talks_to(name: str) -> None:
    """Which servers those are follows from its settings."""
    kind = PROCESSES[OURS[name]["command"][0]]
    servers = {"kafka_bootstrap": "kafka", "database_url": "postgres", "redis_url": "valkey"}
    needed = {server for field, server in servers.items() if field in kind.model_fields}
    if name != "migrate":
        needed.add("migrate")
    assert set(OURS[name]["depends_on"]) == needed


@pytest.mark.parametrize("name", OURS)
def test_every_variable_is_one_that_the_process_reads(name: str) -> None:
    """A misspelt variable would be ignored; a secret stands in a file, and only a secret does."""
    known = kinds_of(name)
    for variable in OURS[name]["environment"]:
        plain = variable if variable in known else variable.removesuffix("_FILE")
        assert plain in known, variable
        assert known[plain] == (plain != variable), variable


@pytest.mark.parametrize("name", OURS)
def test_a_process_is_given_the_secrets_it_reads_and_no_others(name: str) -> None:
    """Each secret file is granted to those who read it."""
    values = OURS[name]["environment"].values()
    read = {value.removeprefix("/run/secrets/") for value in values if "/run/secrets/" in value}
    assert set(OURS[name].get("secrets", [])) == read


def test_ingest_would_start(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its settings are complete: test mode, reachable, and one broker is no matter of course."""
    settings = settings_of("ingest", secrets, monkeypatch)
    assert isinstance(settings, IngestSettings)
    assert (settings.livemode, settings.allow_single_broker) == ("test", False)
    assert settings.ingest_host == settings.admin_host == "0.0.0.0"  # noqa: S104 - in a container
    assert settings.kafka_bootstrap == SERVICES["kafka"]["environment"][
        "KAFKA_ADVERTISED_LISTENERS"
    ].removeprefix("PLAINTEXT://")
    secret = settings.webhook_secrets[0].get_secret_value()
    assert re.fullmatch(r"whsec_[0-9a-f]{48}", secret)


@pytest.mark.parametrize(
    ("variable", "value", "field", "expected"),
    [
        ("HOOKLINE_LIVEMODE", "live", "livemode", "live"),
        ("HOOKLINE_ALLOW_SINGLE_BROKER", "true", "allow_single_broker", True),
        ("HOOKLINE_LOG_LEVEL", "debug", "log_level", "debug"),
    ],
)
def test_the_shell_decides(  # noqa: PLR0917 - a row of the table
    secrets: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    field: str,
    expected: object,
) -> None:
    """What a person is likely to change needs no edit of the file."""
    settings = settings_of("ingest", secrets, monkeypatch, **{variable: value})
    assert getattr(settings, field) == expected


def test_a_consumer_would_start(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It trusts what ingest trusts, and its plans file is the sample."""
    settings = settings_of("consumer", secrets, monkeypatch)
    assert isinstance(settings, ConsumerSettings)
    assert settings.retired_secrets == ()
    assert load_plans(settings.plans_file).default == "starter"


def test_the_gatekeeper_would_start(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It listens beyond its container, and so demands a token."""
    settings = settings_of("gatekeeper", secrets, monkeypatch)
    assert isinstance(settings, GatekeeperSettings)
    assert len(settings.gatekeeper_tokens) == 1


@pytest.mark.parametrize("name", ["migrate", "consumer", "gatekeeper"])
def test_urls_lead_to_the_servers_with_their_passwords(
    name: str, secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The password in a URL is the one that the server is given."""
    settings = settings_of(name, secrets, monkeypatch)
    assert isinstance(settings, MigrateSettings | ConsumerSettings | GatekeeperSettings)
    database = urlsplit(settings.database_url.get_secret_value())
    postgres = SERVICES["postgres"]["environment"]
    assert (database.hostname, database.port) == ("postgres", 5432)
    assert database.username == postgres["POSTGRES_USER"]
    assert database.path == f"/{postgres['POSTGRES_DB']}"
    assert database.password == (secrets / "postgres_password").read_text().strip()
    if not isinstance(settings, MigrateSettings):
        redis = urlsplit(settings.redis_url.get_secret_value())
        assert (redis.hostname, redis.port) == ("valkey", 6379)
        assert (secrets / "valkey.conf").read_text() == f"requirepass {redis.password}\n"


def test_the_script_makes_every_secret_once(secrets: Path) -> None:
    """All files that Compose mounts, each random; a second run changes nothing."""
    made = {path.name: path.read_text() for path in secrets.iterdir()}
    assert {f"./secrets/{name}" for name in made} == {
        s["file"] for s in COMPOSE["secrets"].values()
    }
    assert make_secrets(secrets.parent) == secrets
    assert {path.name: path.read_text() for path in secrets.iterdir()} == made
    randoms = [found for text in made.values() for found in re.findall(r"[0-9a-f]{48}", text)]
    assert len(set(randoms)) == len(made) - len({"database_url", "redis_url", "retired_secrets"})


def test_secrets_are_open_to_a_container_and_closed_to_neighbours(secrets: Path) -> None:
    """The folder is the owner's alone; a container's user reads the file that is mounted."""
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets.iterdir()} == {0o644}


def test_secrets_are_never_committed() -> None:
    """Git does not see the folder."""
    assert "/secrets/" in (ROOT / ".gitignore").read_text().splitlines()


def test_prometheus_finds_every_process() -> None:
    """Targets are the services that serve metrics, by their admin ports, on a shared network."""
    config = SERVICES["prometheus"]["configs"][0]["source"]
    text = (ROOT / COMPOSE["configs"][config]["file"]).read_text()
    found = {}
    for job in yaml.safe_load(text)["scrape_configs"]:
        for static in job.get("static_configs", []):
            host, port = static["targets"][0].split(":")
            found[job["job_name"]] = (host, int(port))
        for dns in job.get("dns_sd_configs", []):
            assert dns["type"] == "A"
            found[job["job_name"]] = (dns["names"][0], dns["port"])
    ports = {
        "ingest": IngestSettings.model_fields["ingest_admin_port"].default,
        "consumer": ConsumerSettings.model_fields["consumer_admin_port"].default,
        "gatekeeper": GatekeeperSettings.model_fields["gatekeeper_admin_port"].default,
    }
    assert found == {name: (name, port) for name, port in ports.items()}
    for name, port in ports.items():
        assert set(SERVICES[name]["networks"]) & set(SERVICES["prometheus"]["networks"])
        assert SERVICES[name]["environment"]["HOOKLINE_ADMIN_HOST"] == "0.0.0.0"  # noqa: S104
        assert SERVICES[name]["healthcheck"]["test"][-1] == str(port)


def test_grafana_finds_prometheus() -> None:
    """The data source has a fixed id, for dashboards to name, and leads to the service."""
    config = next(
        found["source"]
        for found in SERVICES["grafana"]["configs"]
        if "/datasources/" in found["target"]
    )
    text = (ROOT / COMPOSE["configs"][config]["file"]).read_text()
    (source,) = yaml.safe_load(text)["datasources"]
    assert (source["uid"], source["type"]) == ("prometheus", "prometheus")
    url = urlsplit(source["url"])
    assert url.hostname in SERVICES
    assert f"--url=http://127.0.0.1:{url.port}" in SERVICES["prometheus"]["healthcheck"]["test"]
    assert set(SERVICES["grafana"]["networks"]) & set(SERVICES["prometheus"]["networks"])


def test_grafana_finds_the_dashboards() -> None:
    """The provider's folder is where the generated files are mounted; nobody edits them there."""
    text = (ROOT / "ops/grafana/provisioning/dashboards/hookline.yml").read_text()
    (provider,) = yaml.safe_load(text)["providers"]
    mount = f"./ops/grafana/dashboards:{provider['options']['path']}:ro"
    assert mount in SERVICES["grafana"]["volumes"]
    assert provider["allowUiUpdates"] is False


def test_prometheus_finds_the_rules() -> None:
    """They are mounted beside the configuration that names them."""
    config = yaml.safe_load((ROOT / "ops/prometheus/prometheus.yml").read_text())
    assert config["rule_files"] == ["rules/*.yml"]
    assert "./ops/prometheus/rules:/etc/prometheus/rules:ro" in SERVICES["prometheus"]["volumes"]


def test_up_alone_starts_everything_and_core_does_without_dashboards() -> None:
    """Both profiles are the default, and nothing of the core waits for the other one."""
    profiles = {name: service["profiles"] for name, service in SERVICES.items()}
    watching = {name for name, found in profiles.items() if found == ["observability"]}
    assert watching == {"prometheus", "grafana"}
    assert all(profiles[name] == ["core"] for name in SERVICES.keys() - watching)
    default = re.search(r"^COMPOSE_PROFILES=(.+)$", (ROOT / ".env").read_text(), re.MULTILINE)
    assert default is not None
    assert set(default[1].split(",")) == {"core", "observability"}
    needed = {
        need for name in SERVICES.keys() - watching for need in SERVICES[name].get("depends_on", ())
    }
    assert not needed & watching
