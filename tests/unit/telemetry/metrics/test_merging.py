"""The metrics of several workers as those of one gateway."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Counter

from healthomics_gateway.telemetry.metrics.exposition import Exposition
from healthomics_gateway.telemetry.metrics.families import (
    MAX_FAMILIES,
    Family,
    ReportedSample,
    are_within_bounds,
    families_of,
)
from healthomics_gateway.telemetry.metrics.merging import MergedMetrics
from healthomics_gateway.telemetry.metrics.registry import Metrics
from healthomics_gateway.telemetry.metrics.state import GAUGES, PREFIX, STATE
from healthomics_gateway.telemetry.metrics.supervisor import SupervisorMetrics
from testkit.families import counter, gauge, histogram
from testkit.metrics import OPENMETRICS, Scrape, parsed


class Workers:
    """Merged metrics, and which workers are known."""

    def __init__(self, *reported: Family) -> None:
        """Let a worker report each of these metrics, the first one number 1."""
        self.known: set[int] = set()
        self.own: list[Family] = []
        self.merged = MergedMetrics(lambda: self.known, own=lambda: self.own)
        for number, family in enumerate(reported, start=1):
            self.put(number, family)

    def put(self, number: int, *families: Family) -> None:
        """Let a worker report."""
        self.known.add(number)
        self.merged.put(number, families)

    def end(self, number: int) -> None:
        """Let a worker end."""
        self.known.discard(number)
        self.merged.end(number)

    async def page(self, accept: str = "") -> Scrape:
        """Return the page as Prometheus reads it."""
        body, _ = await Exposition(self.merged).page(accept)
        return parsed(body.decode(), is_open=bool(accept))


def test_each_gauge_has_a_way_to_be_merged() -> None:
    """The table has all gauges of the state and of the process, and no other."""
    of_state = {PREFIX + name for name, row in STATE.items() if not row.is_counter}
    metrics = Metrics(reasons=("A",))
    others = {each.name for each in metrics.registry.collect() if each.type == "gauge"}

    assert of_state | others == set(GAUGES)


async def test_counters_are_summed_also_over_workers_that_have_ended() -> None:
    """The end of a worker changes no sum, and its next process adds to it."""
    workers = Workers(counter("calls", 3, code="OK"), counter("calls", 4, code="OK"))
    together = await workers.page()
    workers.end(1)
    alone = await workers.page()
    workers.put(1, counter("calls", 1, code="OK"))
    again = await workers.page()

    series = "calls_total", frozenset({("code", "OK")})
    assert [7, 7, 8] == [each.values[series] for each in (together, alone, again)]


async def test_counters_stay_while_no_worker_runs() -> None:
    """Without any worker the page has the counts of the last ones, but no gauges."""
    workers = Workers()
    workers.put(1, counter("calls", 3), gauge(f"{PREFIX}watches", 2))
    workers.end(1)

    assert {("calls_total", frozenset()): 3} == (await workers.page()).values


async def test_histograms_are_summed_with_the_newest_exemplar() -> None:
    """Each bucket has the sum, and the exemplar of the worker that observed last."""
    workers = Workers(
        histogram("seconds", 0.5, 0.25, request_id="older", at=1.0),
        histogram("seconds", 1.0, request_id="newest", at=3.0),
        histogram("seconds", 1.0, request_id="old", at=2.0),
    )
    found = await workers.page(OPENMETRICS)

    assert {
        ("seconds_bucket", frozenset({("le", "1.0")})): 4,
        ("seconds_bucket", frozenset({("le", "+Inf")})): 4,
        ("seconds_count", frozenset()): 4,
        ("seconds_sum", frozenset()): 2.75,
    } == found.values
    assert [{"request_id": "newest"}] == found.exemplars


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        pytest.param("cache_bytes", [3, 4], 7, id="sum"),
        pytest.param("quota_limit", [1, 0], 1, id="max"),
        pytest.param("ready", [1, 0], 0, id="last"),
        pytest.param("last_reload_ok", [1, 0], 0, id="min"),
        pytest.param(
            "credentials_expiry_timestamp_seconds", [0, 9, 5], 5, id="earliest"
        ),
        pytest.param("jwks_expiry_timestamp_seconds", [0, 0], 0, id="unknown"),
    ],
)
async def test_gauges_are_merged_as_the_table_says(
    name: str, values: list[float], expected: float
) -> None:
    """Each gauge has one value for all workers."""
    workers = Workers(*(gauge(PREFIX + name, each) for each in values))

    assert expected == (await workers.page()).value(name)


async def test_worker_that_is_not_known_has_counters_only() -> None:
    """The gauges of a worker that hasn't reported lately are left out."""
    workers = Workers()
    for number in (1, 2):
        workers.put(number, counter("calls", 3), gauge(f"{PREFIX}watches", 2))
    workers.known = {2}
    found = await workers.page()

    assert 2 == found.value("watches")
    assert 6 == found.values["calls_total", frozenset()]


async def test_metrics_of_the_process_itself_are_added() -> None:
    """Its counters are added; it alone says whether the gateway is ready."""
    workers = Workers(counter("process_cpu_seconds", 1.5), gauge(f"{PREFIX}ready", 1))
    workers.own = [
        counter("process_cpu_seconds", 0.5),
        counter("restarts", 2),
        gauge(f"{PREFIX}ready", 0),
    ]
    found = await workers.page()

    assert (2, 0) == (found.value("process_cpu_seconds_total"), found.value("ready"))
    assert 2 == found.values["restarts_total", frozenset()]


async def test_metrics_of_an_unknown_kind_are_ignored() -> None:
    """A gauge that the table hasn't, or another type, isn't on the page."""
    summary = Family("took", "summary", "Help.", [ReportedSample("took_sum", {}, 1.0)])

    assert {} == (await Workers(gauge("length", 1), summary).page()).values


async def test_page_of_one_worker_is_its_own() -> None:
    """Merging the metrics of one worker changes none of them, in both formats."""
    metrics = Metrics(reasons=("A", "B"))
    assert metrics.calls
    metrics.calls.of("Service", "Method", "unary").started.inc(5)
    metrics.refusals["A"].inc(exemplar={"request_id": "x"})
    families = [
        each
        for each in families_of(metrics.registry)
        if not each.name.startswith(("process_", "python_"))
    ]
    workers = Workers()
    workers.put(1, *families)
    for accept in ("", OPENMETRICS):
        body, _ = await Exposition(metrics).page(accept)
        alone = parsed(body.decode(), is_open=bool(accept))
        merged = await workers.page(accept)
        kept = {
            series: value
            for series, value in alone.values.items()
            if not series[0].startswith(("process_", "python_"))
        }
        assert kept == merged.values
        assert alone.exemplars == merged.exemplars


def test_values_that_json_has_not_are_left_out() -> None:
    """A sample that isn't a finite number isn't reported."""
    registry = CollectorRegistry()
    Counter("a", "Help.", registry=registry).inc(float("inf"))
    Counter("b", "Help.", registry=registry).inc(2)

    assert {"a": [], "b": [2.0]} == {
        each.name: [sample.value for sample in each.samples]
        for each in families_of(registry)
    }


def test_more_families_than_a_worker_has_are_not_within_bounds() -> None:
    """The number of families and of samples is bounded."""
    one = counter("a", 1)

    assert are_within_bounds([one] * MAX_FAMILIES)
    assert not are_within_bounds([one] * (MAX_FAMILIES + 1))


def test_supervisor_measures_its_own_process() -> None:
    """It has the metrics of a process, and those that its readers read."""
    own = SupervisorMetrics({"worker_restarts": lambda: {(): 2.0}})
    found = {each.name: each for each in own.families()}

    assert {"process_cpu_seconds", "python_gc_collections"} <= set(found)
    (sample,) = found[f"{PREFIX}worker_restarts"].samples
    assert (f"{PREFIX}worker_restarts_total", 2.0) == (sample.name, sample.value)
