"""Sums counters over workers, also over those that have ended."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import TypeAlias

# The name of a sample, and its labels in the order of their names.
Series: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]


class Totals:
    """The sums of each counter's values in all workers.

    While a series is reported, its sum never goes down: it includes what a worker had
    counted before it ended, or before it counted anew. A series that no worker reports
    any more, such as that of a rule that is gone, is forgotten.
    """

    def __init__(self) -> None:
        """Begin without workers."""
        self._values: dict[int, Mapping[Series, float]] = {}  # by worker
        self._before: defaultdict[Series, float] = defaultdict(float)

    def put(self, worker: int, values: Mapping[Series, float]) -> None:
        """Set the values that a worker has reported."""
        for series, value in self._values.get(worker, {}).items():
            if values.get(series, 0.0) < value:
                self._before[series] += value
        self._values[worker] = values
        for series in self._before.keys() - set(self._reported()):
            del self._before[series]

    def end(self, worker: int) -> None:
        """Keep the last values of a worker that has ended."""
        for series, value in self._values.pop(worker, {}).items():
            self._before[series] += value

    def sums(self) -> dict[Series, float]:
        """Return the sums of the series that are reported, or of the last ones."""
        series = self._reported() if self._values else iter(self._before)
        sums = {each: self._before.get(each, 0.0) for each in series}
        for values in self._values.values():
            for each, value in values.items():
                sums[each] += value
        return sums

    def _reported(self) -> Iterator[Series]:
        for values in self._values.values():
            yield from values
