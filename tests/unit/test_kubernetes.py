"""The Kubernetes manifests: valid by published schemas, closed where they must be, of one mind."""

import json
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from ingest.publisher import FLUSH_SECONDS
from ingest.webhook import PATH as WEBHOOK_PATH
from ops.kubernetes.generated import OPS, generate
from ops.options import PROCESSES
from ops.servers import DRAIN_SECONDS
from schemas.settings import PREFIX, holds_secret
from schemas.topics import PARTITIONS
from support.programs import find_file, find_program

Json = dict[str, Any]

OVERLAYS = ("base", "example")
OLDEST, NEWEST = "1.31", "1.37"
CRDS = (
    "keda.sh_scaledobjects.yaml",
    "monitoring.coreos.com_podmonitors.yaml",
    "monitoring.coreos.com_prometheusrules.yaml",
)
KINDS = (
    "ConfigMap", "Deployment", "HorizontalPodAutoscaler", "Ingress", "Job", "Namespace",
    "NetworkPolicy", "PodDisruptionBudget", "Service",
)  # fmt: skip
SERVERS = ("ingest", "consumer", "gatekeeper")


@cache
def render(overlay: str) -> list[Json]:
    """Return what an overlay applies."""
    built = subprocess.run(  # noqa: S603 - a program that make tools fetched
        [str(find_program("kustomize")), "build", str(OPS / "kubernetes" / overlay)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    return list(yaml.safe_load_all(built.stdout))


def of_kind(kind: str, overlay: str = "example") -> dict[str, Json]:
    """Return the objects of a kind by their names."""
    return {o["metadata"]["name"]: o for o in render(overlay) if o["kind"] == kind}


def close(schema: Any, *, own: bool = True) -> Any:
    """Return a schema that refuses fields which it does not name."""
    if isinstance(schema, list):
        return [close(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: close(value, own=key != "properties") for key, value in schema.items()}
    open_ = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if own and isinstance(schema.get("properties"), dict) and not open_:
        closed["additionalProperties"] = False
    return closed


def built_in(folder: Path, version: str) -> None:
    """Write Kubernetes' own schemas of a version, in which nothing is left open.

    They refer to each other by addresses in the net; a file beside them has the same.
    """
    packaged = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
    (source,) = packaged.glob(f"v{version}.*-local-strict")
    wanted = {f"{kind.lower()}-*.json" for kind in KINDS}
    for path in [source / "_definitions.json", *(f for w in wanted for f in source.glob(w))]:
        schema = json.loads(path.read_text().replace("/api/_definitions.json", "_definitions.json"))
        schema.pop("$id", None)
        (folder / path.name).write_text(json.dumps(schema))


def custom(folder: Path) -> None:
    """Write the schemas of the operators' kinds, closed."""
    for name in CRDS:
        definition = yaml.safe_load(find_file(name).read_text())["spec"]
        group = definition["group"].partition(".")[0]
        for version in definition["versions"]:
            schema = version["schema"]["openAPIV3Schema"]
            for field in ("apiVersion", "kind", "metadata"):
                schema["properties"].setdefault(field, {})
            # An object's metadata is Kubernetes' own.
            schema["properties"]["metadata"] = {"type": "object"}
            file = f"{definition['names']['kind'].lower()}-{group}-{version['name']}.json"
            (folder / file).write_text(json.dumps(close(schema)))


@pytest.fixture(scope="module", params=[OLDEST, NEWEST])
def schemas(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Provide the schemas of a version of Kubernetes, and those of the operators."""
    folder = tmp_path_factory.mktemp("schemas")
    built_in(folder, request.param)
    custom(folder)
    return folder


def validate(objects: list[Json], schemas: Path) -> tuple[int, str]:
    """Let kubeconform judge objects."""
    place = schemas / "{{ .ResourceKind }}{{ .KindSuffix }}.json"
    found = subprocess.run(  # noqa: S603 - a program that make tools fetched
        [
            str(find_program("kubeconform")), "-strict", "-summary",
            "-schema-location", str(place),
        ],
        input=yaml.safe_dump_all(objects), capture_output=True, text=True, check=False,
    )  # fmt: skip
    return found.returncode, found.stdout + found.stderr


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_object_is_valid(schemas: Path, overlay: str) -> None:
    """Each object is of a known kind, and holds only fields that its schema names."""
    code, said = validate(render(overlay), schemas)
    assert code == 0, said
    assert f"Valid: {len(render(overlay))}, Invalid: 0, Errors: 0, Skipped: 0" in said


@pytest.mark.parametrize(
    ("kind", "name"),
    [("Deployment", "ingest"), ("ScaledObject", "consumer"), ("PodMonitor", "hookline")],
)
def test_a_field_that_is_not_there_is_noticed(schemas: Path, kind: str, name: str) -> None:
    """The check itself can fail: a misspelt field is refused, an operator's as well."""
    broken = json.loads(json.dumps(of_kind(kind)[name]))
    broken["spec"]["misspelt"] = 1
    code, said = validate([broken], schemas)
    assert code == 1, said


def pods() -> Iterator[tuple[str, Json]]:
    """Yield the pods that are run, by their component."""
    for kind in ("Deployment", "Job"):
        for name, workload in of_kind(kind).items():
            yield name, workload["spec"]["template"]


def test_no_pod_has_more_rights_than_it_needs() -> None:
    """Not root, a root file system that is read only, no capability, no token, limits."""
    seen = dict(pods())
    assert set(seen) == {*SERVERS, "migrate"}
    for name, pod in seen.items():
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["metadata"]["labels"]["app.kubernetes.io/component"] == name
        (container,) = spec["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert "memory" in container["resources"]["limits"]
        assert container["image"] == "registry.example/hookline:0.1.0"


@pytest.mark.parametrize("name", SERVERS)
def test_each_server_is_probed_spread_and_given_time(name: str) -> None:
    """Probes ask the admin port, which is in no Service; the grace period outlasts our deadline."""
    spec = of_kind("Deployment")[name]["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    for probe, path in (
        ("startup", "/healthz"),
        ("liveness", "/healthz"),
        ("readiness", "/readyz"),
    ):
        assert container[f"{probe}Probe"]["httpGet"] == {"path": path, "port": "admin"}
    assert spec["terminationGracePeriodSeconds"] > DRAIN_SECONDS + FLUSH_SECONDS + 5
    assert spec["topologySpreadConstraints"]
    assert name in of_kind("PodDisruptionBudget")
    service = of_kind("Service").get(name)
    assert (service is None) == (name == "consumer")
    if service is not None:
        assert [port["targetPort"] for port in service["spec"]["ports"]] == ["http"]
    settings = PROCESSES[{"consumer": "consume"}.get(name, name)].model_fields
    assert ports["admin"] == settings[f"{name}_admin_port"].default


@pytest.mark.parametrize("name", [*SERVERS, "migrate"])
def test_each_process_is_told_what_it_needs(name: str) -> None:
    """Every setting without a default is given, a secret by a file that is mounted."""
    (settings,) = (
        m["data"] for n, m in of_kind("ConfigMap").items() if n.startswith("hookline-settings")
    )
    spec = dict(pods())[name]["spec"]
    given = settings | {e["name"]: e["value"] for e in spec["containers"][0].get("env", [])}
    mounted = {
        f"/run/secrets/hookline/{item['path']}"
        for volume in spec["volumes"]
        for item in volume.get("secret", {}).get("items", [])
    }
    for field_name, field in PROCESSES[
        {"consumer": "consume"}.get(name, name)
    ].model_fields.items():
        variable = f"{PREFIX}{field_name}".upper()
        if holds_secret(field) and f"{variable}_FILE" in given:
            assert given[f"{variable}_FILE"] in mounted, variable
        elif field.is_required():
            assert variable in given, variable


def test_the_scaler_looks_where_the_consumers_are() -> None:
    """Brokers, topic and group are those of the settings; never more consumers than partitions."""
    scaled = of_kind("ScaledObject")["consumer"]["spec"]
    (settings,) = (
        m["data"] for n, m in of_kind("ConfigMap").items() if n.startswith("hookline-settings")
    )
    (trigger,) = scaled["triggers"]
    told = trigger["metadata"]
    assert told["bootstrapServers"] == settings["HOOKLINE_KAFKA_BOOTSTRAP"]
    assert told["topic"] == settings["HOOKLINE_KAFKA_TOPIC"]
    assert told["consumerGroup"] == settings["HOOKLINE_KAFKA_GROUP"]
    assert (scaled["minReplicaCount"], scaled["maxReplicaCount"]) == (1, PARTITIONS)
    wanted = {
        "offsetResetPolicy": "earliest",
        "ensureEvenDistributionOfPartitions": "true",
        "excludePersistentLag": "false",
        "allowIdleConsumers": "false",
    }
    assert wanted.items() <= told.items()
    assert set(of_kind("HorizontalPodAutoscaler")) == {"ingest", "gatekeeper"}


def test_nothing_is_open_but_what_is_named() -> None:
    """All traffic is denied first; from outside one path of one service can be reached."""
    policies = of_kind("NetworkPolicy")
    deny = policies["deny-by-default"]["spec"]
    assert deny["podSelector"] == {"matchLabels": {"app.kubernetes.io/part-of": "hookline"}}
    assert deny["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in deny
    assert "egress" not in deny
    (ingress,) = of_kind("Ingress").values()
    (rule,) = ingress["spec"]["rules"]
    (path,) = rule["http"]["paths"]
    assert (path["path"], path["pathType"]) == (WEBHOOK_PATH, "Exact")
    assert path["backend"]["service"]["name"] == "ingest"
    for name, policy in policies.items():
        for rule in policy["spec"].get("ingress", []):
            assert rule["from"], name
            assert rule["ports"], name
    for name in SERVERS:
        selected = policies[name]["spec"]["podSelector"]["matchLabels"]
        assert selected.items() <= dict(pods())[name]["metadata"]["labels"].items()


def test_rules_and_dashboards_are_those_of_prometheus_and_grafana() -> None:
    """What Kubernetes is given is made from the files that the compose file uses."""
    for path, content in generate().items():
        assert (OPS / path).read_text() == content, "run: python -m ops.kubernetes"


def test_targets_have_the_jobs_that_rules_ask_for() -> None:
    """A pod's component is the name of its job."""
    spec = of_kind("PodMonitor")["hookline"]["spec"]
    assert spec["jobLabel"] == "app.kubernetes.io/component"
    (selected,) = spec["selector"]["matchExpressions"]
    assert sorted(selected["values"]) == sorted(SERVERS)
    (endpoint,) = spec["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["path"]) == ("admin", "/metrics")
