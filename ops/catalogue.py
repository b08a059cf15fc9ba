"""The metric catalogue as data: what may stand on a metrics page, for tables and dashboards."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from schemas.instruments import Labelled
from schemas.metrics import (
    ConsumerMetrics,
    GatekeeperMetrics,
    IngestMetrics,
    ProcessMetrics,
    ReaderMetrics,
    StripeMetrics,
)

Instrument = Labelled[..., Any] | MetricWrapperBase

CATALOGUES = (
    ProcessMetrics,
    IngestMetrics,
    ConsumerMetrics,
    GatekeeperMetrics,
    ReaderMetrics,
    StripeMetrics,
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One metric; `labels` holds what each label's values are."""

    name: str
    kind: str
    documentation: str
    labels: dict[str, type[Any]]

    def series(self) -> list[str]:
        """Return the names that stand on a metrics page."""
        if self.kind == "histogram":
            return [f"{self.name}_{part}" for part in ("bucket", "count", "sum")]
        return [self.name]


def catalogue() -> list[Entry]:
    """Return every metric of every process once, by name."""
    found: dict[str, Entry] = {}
    for kind in CATALOGUES:
        for instrument in instruments(kind(CollectorRegistry())):
            entry = _entry(instrument)
            found[entry.name] = entry
    return [found[name] for name in sorted(found)]


def label_values() -> dict[type[Enum], list[str]]:
    """Return the closed lists in use and their values, by the list's name."""
    kinds = {kind for entry in catalogue() for kind in entry.labels.values()}
    closed = sorted((k for k in kinds if issubclass(k, Enum)), key=lambda kind: kind.__name__)
    return {kind: [str(value) for value in kind] for kind in closed}


def instruments(owner: object) -> Iterator[Instrument]:
    """Return what a process's metrics are made of."""
    for value in vars(owner).values():
        if isinstance(value, Labelled | MetricWrapperBase):
            yield value
        else:
            yield from instruments(value)


def _entry(instrument: Instrument) -> Entry:
    metric = instrument.metric if isinstance(instrument, Labelled) else instrument
    labels = instrument.kinds if isinstance(instrument, Labelled) else {}
    (family,) = metric.collect()
    suffix = "_total" if family.type == "counter" else ""
    return Entry(family.name + suffix, family.type, family.documentation, labels)
