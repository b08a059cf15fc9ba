"""The option and metric tables of the documentation, generated from what the code reads."""

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from ops.catalogue import catalogue, label_values
from schemas.settings import (
    PREFIX,
    BackfillSettings,
    ConsumerSettings,
    DatabaseSettings,
    DoctorSettings,
    EraseSettings,
    GatekeeperSettings,
    IngestSettings,
    MigrateSettings,
    PositionsSettings,
    ProcessSettings,
    ReaderSettings,
    RecallSettings,
    ReconcileSettings,
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
    "backfill": BackfillSettings,
    "verify": BackfillSettings,
    "reconcile": ReconcileSettings,
    "doctor": DoctorSettings,
    "dead-letters": DatabaseSettings,
    "dead-letters replay": ReplaySettings,
    "positions": PositionsSettings,
    "warm": ReaderSettings,
    "retention": DatabaseSettings,
    "erase": EraseSettings,
}


def render_options() -> str:
    """Return the Markdown table of all variables that processes read."""
    fields: dict[str, FieldInfo] = {}
    readers: dict[str, list[str]] = {}
    for process, kind in PROCESSES.items():
        for name, field in kind.model_fields.items():
            # The first process that reads it is the one that cannot do without.
            fields.setdefault(name, field)
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
        f"| `{entry.name}` | {entry.kind} | {', '.join(f'`{name}`' for name in entry.labels)} "
        f"| {entry.documentation} |"
        for entry in catalogue()
    ]
    return "\n".join(["| metric | kind | labels | meaning |", "|---|---|---|---|", *rows])


def render_label_values() -> str:
    """Return the Markdown table of the values that labels have."""
    names = {
        kind: sorted({name for e in catalogue() for name, k in e.labels.items() if k is kind})
        for kind in label_values()
    }
    rows = [
        f"| {', '.join(f'`{name}`' for name in names[kind])} | {(kind.__doc__ or '').rstrip('.')} "
        f"| {', '.join(f'`{value}`' for value in values if value)} |"
        for kind, values in label_values().items()
    ]
    return "\n".join(["| label | says | values |", "|---|---|---|", *rows])


def _default(field: FieldInfo) -> str:
    default = field.default
    if default is PydanticUndefined:
        return "**required**"
    if default is None or default == ():
        return "none"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _names(processes: list[str]) -> str:
    return "all" if len(processes) == len(PROCESSES) else ", ".join(processes)
