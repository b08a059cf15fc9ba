"""The metric catalogue: what is not in it cannot be emitted, and what is in it is well made."""

import re
import subprocess
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics import MetricWrapperBase

from consumer.billing.handlers import NoFact
from consumer.billing.outcome import Unchanged
from consumer.errors import Cause
from consumer.storage.dead_letters import Reason
from ingest.publisher import WhyUnavailable
from ops.catalogue import CATALOGUES, Entry, catalogue, instruments
from schemas.instruments import Labelled
from schemas.labels import (
    EventReason,
    EventType,
    LetterReason,
    RequestReason,
    Status,
    Verdict,
)
from schemas.metrics import (
    ConsumerMetrics,
    GatekeeperMetrics,
    IngestMetrics,
    new_registry,
    type_label,
)
from schemas.signature import RefusalReason
from support.programs import find_program

METRICS = catalogue()
NAME = r"hookline_(ingest|consumer|gatekeeper|redis|reconcile|verify|stripe|build)_[a-z_]+"
BASE_UNITS = ("_seconds", "_bytes", "_records", "_info")
THINGS = (
    "connections",
    "requests",
    "secrets",
    "partitions",
    "subscriptions",
    "letters",
    "open",
    "waiting",
)
"""What gauges count besides: one of them is a unit."""


def test_a_metric_that_is_not_in_the_catalogue_is_a_type_error() -> None:
    """Mypy would call the comment unused, and the attribute is not there."""
    metrics = IngestMetrics(CollectorRegistry())
    with pytest.raises(AttributeError):
        metrics.reqests.labels(Status.OK, RequestReason.ACCEPTED)  # type: ignore[attr-defined]


def test_a_label_value_that_is_not_in_its_list_is_a_type_error() -> None:
    """The comments would be unused else; the value is refused before anything is exported."""
    registry = CollectorRegistry()
    batches = ConsumerMetrics(registry).batches
    with pytest.raises(TypeError, match="'late' is no Verdict, so no value of label verdict"):
        batches.labels("late")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        batches.labels(Verdict.APPLIED, 1)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="late"):
        Verdict("late")
    samples = [sample for metric in registry.collect() for sample in metric.samples]
    assert {s.labels["verdict"] for s in samples if "verdict" in s.labels} == set(Verdict)


def test_label_values_are_bound_once() -> None:
    """A hot path asks a dictionary; what was bound is what is exported, until it is forgotten."""
    registry = CollectorRegistry()
    metrics = ConsumerMetrics(registry)
    bound = metrics.lag_records.labels(3)
    assert metrics.lag_records.labels(partition=3) is bound
    bound.set(7)
    name, labels = "hookline_consumer_lag_records", {"partition": "3"}
    assert registry.get_sample_value(name, labels) == 7
    metrics.lag_records.forget(3)
    metrics.lag_records.forget(3)
    assert registry.get_sample_value(name, labels) is None


def test_a_first_increase_can_be_seen() -> None:
    """A counter of one closed list stands at 0 from the start, so that its rise to 1 is one."""
    registry = CollectorRegistry()
    ConsumerMetrics(registry)
    for reason in LetterReason:
        labels = {"reason": str(reason)}
        assert registry.get_sample_value("hookline_consumer_dead_letters_total", labels) == 0


@pytest.mark.parametrize(
    ("words", "source"),
    [
        (EventReason, ["", *Unchanged, *NoFact, *Reason]),
        (LetterReason, Reason),
        (Verdict, ["applied", *Cause]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_lists_of_labels_are_those_of_the_code(words: Iterable[str], source: Iterable[str]) -> None:
    """What the code can decide has its label, and no label stands for what it cannot decide."""
    assert sorted(map(str, words)) == sorted(map(str, source))


@pytest.mark.parametrize("reason", [*RefusalReason, *WhyUnavailable])
def test_every_refusal_has_its_label(reason: str) -> None:
    """A refused signature and an event that cannot be published are counted by their reason."""
    assert RequestReason(reason) == reason


def test_unknown_types_of_events_share_a_label() -> None:
    """Stripe may invent types; the number of series stays what it is."""
    assert type_label("invoice.paid") is EventType.INVOICE_PAID
    assert type_label("invoice.invented") is type_label("other") is EventType.OTHER


@pytest.mark.parametrize("entry", METRICS, ids=lambda entry: entry.name)
def test_a_metric_is_named_as_prometheus_has_it(entry: Entry) -> None:
    """Prefix and process, base units, `_total` on counters alone, a sentence that ends."""
    assert re.fullmatch(NAME, entry.name)
    assert (entry.kind == "counter") == entry.name.endswith("_total")
    if entry.kind != "counter":
        assert entry.name.endswith((*BASE_UNITS, *THINGS)), entry.name
    assert re.fullmatch(r"[A-Z0-9].*\.", entry.documentation)


@pytest.mark.parametrize("entry", METRICS, ids=lambda entry: entry.name)
def test_label_values_are_closed(entry: Entry) -> None:
    """A label is a closed list, a partition's or a secret's number, or the version of the build."""
    for name, kind in entry.labels.items():
        closed = issubclass(kind, Enum) or (name, kind) in {("partition", int), ("position", int)}
        assert closed or (entry.name, name) == ("hookline_build_info", "version")


def test_all_labelled_metrics_are_of_closed_lists() -> None:
    """Nobody goes past the lists by the client's own labels."""
    all_ = [found for kind in CATALOGUES for found in instruments(kind(CollectorRegistry()))]
    plain = [found for found in all_ if isinstance(found, MetricWrapperBase)]
    assert plain
    assert [found for found in plain if found._labelnames] == []  # noqa: SLF001


def test_buckets_fit_the_targets() -> None:
    """The objective of 10 s is a bucket's edge, and so are Stripe's three days of sending again."""
    registry = CollectorRegistry()
    ConsumerMetrics(registry)
    for name, edge in (("end_to_end", "10.0"), ("created_to_commit", "259200.0")):
        bucket = f"hookline_consumer_{name}_seconds_bucket"
        assert registry.get_sample_value(bucket, {"le": edge}) == 0


@pytest.mark.parametrize("kind", [IngestMetrics, ConsumerMetrics, GatekeeperMetrics])
def test_prometheus_finds_nothing_to_say(kind: Callable[[CollectorRegistry], object]) -> None:
    """`promtool check metrics` is silent about the page of each process, every metric shown."""
    registry = new_registry()
    for instrument in instruments(kind(registry)):
        if isinstance(instrument, Labelled):
            instrument.labels(*(_any_of(kind) for kind in instrument.kinds.values()))
    checked = subprocess.run(  # noqa: S603 - found by ourselves
        [find_program("promtool"), "check", "metrics"],
        input=generate_latest(registry),
        capture_output=True,
        check=False,
    )
    assert (checked.stdout, checked.stderr, checked.returncode) == (b"", b"", 0)


def _any_of(kind: type[Any]) -> object:
    return next(iter(kind)) if issubclass(kind, Enum) else kind()
