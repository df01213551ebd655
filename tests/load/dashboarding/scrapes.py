"""Scrapes of `/metrics`, and the rates and quantiles that Prometheus would show."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection
from math import inf, nan
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

PATH = "/metrics"
EVERY_SECONDS = 1.0
WINDOW = 5  # scrapes that a rate is computed over
TIMEOUT_SECONDS = 10.0
OK = 200

Sample = tuple[Mapping[str, str], float]  # labels and value
Curves = dict[str, list[float]]  # by the value of a label


@dataclass(frozen=True, slots=True)
class Scrape:
    """All samples at one time, by their names."""

    at: float  # seconds since the load began
    samples: Mapping[str, list[Sample]]


def parse(text: str, *, at: float) -> Scrape:
    """Return the samples of an exposition in Prometheus's text format."""
    samples: defaultdict[str, list[Sample]] = defaultdict(list)
    for family in text_string_to_metric_families(text):
        for each in family.samples:
            samples[each.name].append((each.labels, each.value))
    return Scrape(at, samples)


@dataclass(slots=True)
class Recording:
    """The scrapes of a load, in their order."""

    scrapes: list[Scrape] = field(default_factory=list)

    @property
    def times(self) -> list[float]:
        """The time of each scrape."""
        return [each.at for each in self.scrapes]

    @property
    def names(self) -> set[str]:
        """The names of all samples of the last scrape."""
        return set(self.scrapes[-1].samples) if self.scrapes else set()

    def value(self, name: str, *, by: str = "", **labels: str) -> Curves:
        """Return the sums of a metric at each scrape, by the values of a label."""
        sums = [self._sums(each, name, by, labels) for each in self.scrapes]
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

    @staticmethod
    def _sums(
        scrape: Scrape, name: str, by: str, labels: Mapping[str, str]
    ) -> dict[str, float]:
        sums: defaultdict[str, float] = defaultdict(float)
        for own, value in scrape.samples.get(name, ()):
            if labels.items() <= own.items():
                sums[own.get(by, "")] += value
        return sums

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
    """Scrape `/metrics` of an admin address each second, for some time."""
    begun = time.monotonic()
    while (at := time.monotonic() - begun) < seconds:
        text = await asyncio.to_thread(_fetch, address)
        recording.scrapes.append(parse(text, at=at))
        due = begun + len(recording.scrapes) * EVERY_SECONDS
        await asyncio.sleep(max(0.0, due - time.monotonic()))


def _fetch(address: str) -> str:
    """Return the page of metrics. Raises OSError if there is none."""
    connection: Any = HTTPConnection(address, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", PATH)
        response = connection.getresponse()
        text = response.read().decode()
    finally:
        connection.close()
    if response.status != OK:
        raise OSError(f"{PATH} answered {response.status}")
    return text
