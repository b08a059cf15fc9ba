"""The option and metric tables of the documentation, generated from what the code reads."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from schemas.metrics import ConsumerMetrics, GatekeeperMetrics, IngestMetrics
from schemas.settings import (
    PREFIX,
    ConsumerSettings,
    DatabaseSettings,
    DoctorSettings,
    GatekeeperSettings,
    IngestSettings,
    MigrateSettings,
    PositionsSettings,
    ProcessSettings,
    RecallSettings,
    ReplaySettings,
    holds_secret,
)

PROCESSES: dict[str, type[ProcessSettings]] = {
    "ingest": IngestSettings,
    "consume": ConsumerSettings,
    "gatekeeper": GatekeeperSettings,
    "migrate": MigrateSettings,
    "recompute": RecallSettings,
    "explain": RecallSettings,
    "doctor": DoctorSettings,
    "dead-letters": DatabaseSettings,
    "dead-letters replay": ReplaySettings,
    "positions": PositionsSettings,
}


def render_options() -> str:
    """Return the Markdown table of all variables that processes read."""
    fields: dict[str, FieldInfo] = {}
    readers: dict[str, list[str]] = {}
    for process, kind in PROCESSES.items():
        for name, field in kind.model_fields.items():
            fields[name] = field
            readers.setdefault(name, []).append(process)
    rows = [
        f"| `{PREFIX}{name.upper()}`{' or `…_FILE`' if holds_secret(field) else ''} "
        f"| {_default(field)} | {_names(readers[name])} | {field.description} |"
        for name, field in sorted(fields.items())
    ]
    return "\n".join(["| variable | default | read by | meaning |", "|---|---|---|---|", *rows])


def render_metrics() -> str:
    """Return the Markdown table of all metrics."""
    rows = [
        f"| `{_exposed_name(metric)}` | {metric.type} | {metric.documentation} |"
        for metric in sorted(_collect(), key=lambda metric: metric.name)
    ]
    return "\n".join(["| metric | kind | meaning |", "|---|---|---|", *rows])


def _collect() -> Iterator[Metric]:
    for catalogue in (IngestMetrics, ConsumerMetrics, GatekeeperMetrics):
        registry = CollectorRegistry()
        catalogue(registry)
        yield from registry.collect()


def _exposed_name(metric: Metric) -> str:
    return metric.name + ("_total" if metric.type == "counter" else "")


def _default(field: FieldInfo) -> str:
    default = field.default
    if default is PydanticUndefined:
        return "**required**"
    if default is None or default == ():
        return "none"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _names(processes: list[str]) -> str:
    return "all" if len(processes) == len(PROCESSES) else ", ".join(processes)
