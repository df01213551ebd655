"""Scrapes of `/metrics`, and the rates and quantiles that Prometheus would show."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf, nan

from testkit.metrics import Scrape, page, parsed

EVERY_SECONDS = 1.0
WINDOW = 5  # scrapes that a rate is computed over
TIMEOUT_SECONDS = 10.0

Curves = dict[str, list[float]]  # by the value of a label


@dataclass(slots=True)
class Recording:
    """The scrapes of a load, and the time of each."""

    scrapes: list[Scrape] = field(default_factory=list)
    times: list[float] = field(default_factory=list)  # seconds since the load began

    def add(self, text: str, *, at: float) -> None:
        """Add a page of metrics."""
        self.scrapes.append(parsed(text))
        self.times.append(at)

    @property
    def names(self) -> set[str]:
        """The names of all samples of the last scrape."""
        return {name for name, _ in self.scrapes[-1].values} if self.scrapes else set()

    def value(self, name: str, *, by: str = "", **labels: str) -> Curves:
        """Return the sums of a metric at each scrape, by the values of a label."""
        sums = [each.sums(name, by=by, **labels) for each in self.scrapes]
        keys = sorted({key for each in sums for key in each})
        return {key: [each.get(key, 0.0) for each in sums] for key in keys}

    def rate(self, name: str, *, by: str = "", **labels: str) -> Curves:
        """Return how much a counter grew a second, over the last scrapes."""
        curves = self.value(name, by=by, **labels)
        return {key: list(self._rates(values)) for key, values in curves.items()}

    def quantile(self, share: float, name: str, **labels: str) -> list[float]:
        """Return a quantile of a histogram over the last scrapes; NaN without any."""
        rates = self.rate(f"{name}_bucket", by="le", **labels)
        buckets = sorted((float(bound), rates[bound]) for bound in rates)
        return [
            _quantile(share, [(bound, values[at]) for bound, values in buckets])
            for at in range(len(self.scrapes))
        ]

    def _rates(self, values: list[float]) -> Iterator[float]:
        times = self.times
        for at, value in enumerate(values):
            first = max(0, at - WINDOW)
            if first == at:
                yield nan
            else:
                yield (value - values[first]) / (times[at] - times[first])


def _quantile(share: float, buckets: list[tuple[float, float]]) -> float:
    """Interpolate within a bucket; above the highest bound, return that bound."""
    total = buckets[-1][1] if buckets else 0.0
    if not total > 0:  # NaN too
        return nan
    rank = share * total
    low, below = 0.0, 0.0
    for bound, count in buckets:
        if count >= rank:
            if bound == inf:
                return low
            return low + (bound - low) * (rank - below) / (count - below or 1.0)
        low, below = bound, count
    return low


async def record(address: str, recording: Recording, *, seconds: float) -> None:
    """Scrape `/metrics` of an admin address each second, for some time.

    Raises OSError if there is no answer.
    """
    begun = time.monotonic()
    while (at := time.monotonic() - begun) < seconds:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            recording.add(await page(address), at=at)
        due = begun + len(recording.scrapes) * EVERY_SECONDS
        await asyncio.sleep(max(0.0, due - time.monotonic()))
