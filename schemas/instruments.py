"""Metrics whose label values come from closed lists; no I/O.

A set of labels is a NamedTuple whose fields are enumerations, or `int` for what is counted by
number. So a value that nobody foresaw is a type error, and raises where types were not looked at.
"""

from collections.abc import Callable
from enum import Enum
from typing import Any, Generic, ParamSpec, TypeVar, get_type_hints

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

P = ParamSpec("P")
M = TypeVar("M", Counter, Gauge, Histogram)


class Labelled(Generic[P, M]):
    """A metric with labels: the client's own `metric`, and `kinds`, what each label may hold."""

    def __init__(self, metric: M, labels: Callable[P, tuple[Any, ...]]) -> None:
        self.metric: M = metric
        self._labels = labels
        self.kinds: dict[str, type[Any]] = get_type_hints(labels)
        self._bound: dict[tuple[Any, ...], M] = {}
        self._show_zeros()

    def labels(self, *values: P.args, **named: P.kwargs) -> M:
        """Return the metric of these label values, bound at its first use; cheap from then on.

        Raises TypeError for a value that is not in its list.
        """
        key = self._labels(*values, **named)
        bound = self._bound.get(key)
        return self._bind(key) if bound is None else bound

    def forget(self, *values: P.args, **named: P.kwargs) -> None:
        """Export these label values no more; safe to repeat."""
        key = self._labels(*values, **named)
        if self._bound.pop(key, None) is not None:
            self.metric.remove(*map(str, key))

    def _bind(self, key: tuple[Any, ...]) -> M:
        for (name, kind), value in zip(self.kinds.items(), key, strict=True):
            if not isinstance(value, kind):
                raise TypeError(f"{value!r} is no {kind.__name__}, so no value of label {name}")
        bound: M = self.metric.labels(*map(str, key))
        self._bound[key] = bound
        return bound

    def _show_zeros(self) -> None:
        """Export each value of a single list from the start, so that a first increase is one."""
        kinds = list(self.kinds.values())
        if len(kinds) == 1 and issubclass(kinds[0], Enum):
            for value in kinds[0]:
                self._bind((value,))


class Counters(Labelled[P, Counter]):
    """Counters by label."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Callable[P, tuple[Any, ...]],
        *,
        registry: CollectorRegistry,
    ) -> None:
        names = tuple(get_type_hints(labels))
        super().__init__(Counter(name, documentation, names, registry=registry), labels)


class Gauges(Labelled[P, Gauge]):
    """Gauges by label."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Callable[P, tuple[Any, ...]],
        *,
        registry: CollectorRegistry,
    ) -> None:
        names = tuple(get_type_hints(labels))
        super().__init__(Gauge(name, documentation, names, registry=registry), labels)


class Histograms(Labelled[P, Histogram]):
    """Histograms by label, with the same buckets."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Callable[P, tuple[Any, ...]],
        *,
        buckets: tuple[float, ...],
        registry: CollectorRegistry,
    ) -> None:
        names = tuple(get_type_hints(labels))
        metric = Histogram(name, documentation, names, buckets=buckets, registry=registry)
        super().__init__(metric, labels)
