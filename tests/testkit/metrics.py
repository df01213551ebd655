"""Reads a gateway's metrics as Prometheus does."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import aiohttp
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from healthomics_gateway.app.gateway import Gateway

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
PREFIX = "healthomics_gateway_"
PATIENCE_SECONDS = 10.0  # for what must happen soon

# A sample's name and its labels.
Series: TypeAlias = tuple[str, frozenset[tuple[str, str]]]


class Seen:
    """A metric that records what it is given."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.values: list[float] = []
        self.exemplars: list[object] = []

    def inc(self, amount: float = 1, exemplar: object = None) -> None:
        """Record an increment, or an observation."""
        self.values.append(amount)
        self.exemplars.append(exemplar)

    observe = inc


@dataclass(frozen=True, slots=True)
class Family:
    """The type of a metric, and the names of its labels."""

    kind: str
    labels: frozenset[str]


@dataclass(frozen=True, slots=True)
class Scrape:
    """The samples of one request."""

    values: dict[Series, float]
    families: dict[str, Family]
    exemplars: list[dict[str, str]]

    def value(self, name: str, **labels: str) -> float:
        """Return the sum of the series with a name and these labels, and any others.

        A name without a prefix is one of the gateway's own. Raises KeyError if there
        are no such series.
        """
        full = name if name.startswith(("grpc_", "process_")) else PREFIX + name
        found = self.sums(full, **labels)
        if not found:
            raise KeyError(full, labels)
        return sum(found.values())

    def sums(self, name: str, *, by: str = "", **labels: str) -> dict[str, float]:
        """Return the sums of the series with a name and these labels, by another one.

        Here a name has its prefix.
        """
        sums: defaultdict[str, float] = defaultdict(float)
        for (each, pairs), value in self.values.items():
            if each == name and labels.items() <= (own := dict(pairs)).items():
                sums[own.get(by, "")] += value
        return sums


async def page(address: object, *, accept: str = "", path: str = "/metrics") -> str:
    """Return the text of the page at an admin address."""
    async with (
        aiohttp.ClientSession(headers={"Accept": accept}) as session,
        session.get(f"http://{address}{path}") as response,
    ):
        assert 200 == response.status
        return await response.text()


async def scrape(served: Any, *, accept: str = "") -> Scrape:
    """Request the metrics of a gateway, or of a process that serves one."""
    text = await page(served.admin_address, accept=accept)
    return parsed(text, is_open="openmetrics" in accept)


def parsed(text: str, *, is_open: bool = False) -> Scrape:
    """Parse a page with the parser of Prometheus' client."""
    parse = openmetrics_families if is_open else text_string_to_metric_families
    values: dict[Series, float] = {}
    families: dict[str, Family] = {}
    exemplars = []
    for family in parse(text):
        labels: set[str] = set()
        for sample in family.samples:
            series = sample.name, frozenset(sample.labels.items())
            assert series not in values, f"twice: {series}"
            values[series] = sample.value
            labels |= set(sample.labels) - {"le"}
            if sample.exemplar:
                exemplars.append(sample.exemplar.labels)
        suffix = "_total" if family.type == "counter" else ""
        families[family.name + suffix] = Family(family.type, frozenset(labels))
    return Scrape(values, families, exemplars)


async def settled(served: Gateway, condition: Callable[[Scrape], bool]) -> Scrape:
    """Request the metrics until a condition holds, as calls end after their answer."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition(found := await scrape(served)):  # noqa: ASYNC110  # there is no event to wait for
            await asyncio.sleep(0.01)
    return found
