"""Merges the metrics that several workers report into those of one gateway."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from healthomics_gateway.telemetry.metrics.families import (
    Family,
    ReportedExemplar,
    ReportedSample,
)
from healthomics_gateway.telemetry.metrics.state import GAUGES
from healthomics_gateway.telemetry.metrics.totals import Series, Totals

CUMULATIVE = frozenset({"counter", "histogram"})


@dataclass(frozen=True, slots=True)
class _Read:
    """What is rendered: it doesn't change, so that a thread may read it."""

    families: Sequence[Family]  # with the series of counters
    gauges: Sequence[Family]
    sums: Mapping[Series, float]


class MergedMetrics(Collector):
    """The metrics of all workers as those of one gateway.

    The values of counters and histograms are summed over all workers, also over those
    that have ended. Gauges are merged as the table `GAUGES` says.
    """

    def __init__(
        self,
        known: Callable[[], Collection[int]],
        *,
        own: Callable[[], Sequence[Family]],
    ) -> None:
        """Begin without workers.

        `known` returns the workers whose state is known, which alone have gauges; `own`
        returns the metrics of this process.
        """
        self._known, self._own = known, own
        self.registry = CollectorRegistry()
        self._totals = Totals()
        self._families: dict[int, Sequence[Family]] = {}
        self._last: Sequence[Family] = ()  # of the worker that has ended last
        self._read = _Read((), (), {})
        self.registry.register(self)

    def put(self, worker: int, families: Sequence[Family]) -> None:
        """Set what a worker has reported; families of another kind are ignored."""
        known = [each for each in families if _is_known(each)]
        self._families[worker] = known
        self._totals.put(worker, dict(_cumulative(known)))

    def end(self, worker: int) -> None:
        """Keep what a worker that has ended had counted."""
        self._last = self._families.pop(worker, self._last)
        self._totals.end(worker)

    def read(self) -> None:
        """Read what is rendered next. Call it in the event loop's thread."""
        found, known, own = self._families, self._known(), self._own()
        sums = self._totals.sums()
        for series, value in _cumulative(own):
            sums[series] = sums.get(series, 0.0) + value
        self._read = _Read(
            families=[*chain(*(found.values() or (self._last,))), *own],
            gauges=[*chain(*(found[each] for each in known if each in found)), *own],
            sums=sums,
        )

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics that were read last."""
        state = self._read
        by_name: defaultdict[str, list[Family]] = defaultdict(list)
        for each in state.families:
            if each.kind in CUMULATIVE:
                by_name[each.name].append(each)
        for each in state.gauges:
            if each.kind not in CUMULATIVE:
                by_name[each.name].append(each)
        for families in by_name.values():
            if families[0].kind in CUMULATIVE:
                yield _summed(families, state.sums)
            else:
                yield _gauge(families)


def _is_known(family: Family) -> bool:
    return family.kind in CUMULATIVE or (
        family.kind == "gauge" and family.name in GAUGES
    )


def _series(sample: ReportedSample) -> Series:
    return sample.name, tuple(sorted(sample.labels.items()))


def _cumulative(families: Iterable[Family]) -> Iterator[tuple[Series, float]]:
    for family in families:
        if family.kind in CUMULATIVE:
            for each in family.samples:
                yield _series(each), each.value


def _metric(families: Sequence[Family]) -> Metric:
    first = families[0]
    return Metric(first.name, first.text, first.kind)


def _summed(families: Sequence[Family], sums: Mapping[Series, float]) -> Metric:
    samples: dict[Series, ReportedSample] = {}
    exemplars: dict[Series, ReportedExemplar] = {}
    for family in families:
        for each in family.samples:
            series = _series(each)
            samples.setdefault(series, each)
            newest = exemplars.get(series)
            if each.exemplar and (
                newest is None or newest.timestamp < each.exemplar.timestamp
            ):
                exemplars[series] = each.exemplar
    metric = _metric(families)
    for series, sample in samples.items():
        found = exemplars.get(series)
        exemplar = (
            Exemplar(dict(found.labels), found.value, found.timestamp)
            if found
            else None
        )
        metric.add_sample(
            sample.name, dict(sample.labels), sums[series], exemplar=exemplar
        )
    return metric


def _gauge(families: Sequence[Family]) -> Metric:
    values: defaultdict[Series, list[float]] = defaultdict(list)
    for family in families:
        for each in family.samples:
            values[_series(each)].append(each.value)
    metric = _metric(families)
    for (name, labels), found in values.items():
        metric.add_sample(name, dict(labels), GAUGES[metric.name](found))
    return metric
