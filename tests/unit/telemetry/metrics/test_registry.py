"""The registry of all metrics, and the parts that they are bound to."""

from __future__ import annotations

import grpc
import pytest
from prometheus_client import generate_latest

from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.telemetry.metrics.calls import CODES, SECONDS
from healthomics_gateway.telemetry.metrics.parts import NOTHING
from healthomics_gateway.telemetry.metrics.registry import AGE_SECONDS, Metrics
from testkit.metrics import Scrape, parsed

REASONS = [each.name for each in Reason]


def read(metrics: Metrics) -> Scrape:
    """Return the samples of a registry."""
    return parsed(generate_latest(metrics.registry).decode())


def test_codes_are_those_of_grpc() -> None:
    """Each code of gRPC has its name in Go, and no other is listed."""
    assert {each.name for each in grpc.StatusCode} == set(CODES)
    assert len(CODES) == len(set(CODES.values()))


def test_registries_are_separate() -> None:
    """What one gateway counts doesn't show in the metrics of another."""
    one, other = Metrics(reasons=REASONS), Metrics(reasons=REASONS)
    one.shared_fetches.inc()

    assert (1, 0) == tuple(
        read(each).value("shared_fetches_total") for each in (one, other)
    )


def test_method_has_all_series_at_once() -> None:
    """A method's series are there, with 0, before it is called."""
    metrics = Metrics(reasons=REASONS)
    assert metrics.calls
    metrics.calls.of("a.Service", "Get", "unary")
    found = read(metrics)

    assert 0 == found.value("grpc_server_handling_seconds_count", grpc_method="Get")
    codes = {
        dict(labels)["grpc_code"]
        for name, labels in found.values
        if name == "grpc_server_handled_total"
    }
    assert set(CODES.values()) == codes


@pytest.mark.parametrize("seconds", [0.001, 30.0])
def test_buckets_separate_the_usual_durations(seconds: float) -> None:
    """A cached answer and a call at its deadline are at the bound of a bucket."""
    assert seconds in SECONDS
    assert list(SECONDS) == sorted(SECONDS)
    assert list(AGE_SECONDS) == sorted(AGE_SECONDS)


def test_metrics_that_are_off_measure_nothing() -> None:
    """Without metrics each part gets some that do nothing, and the page is empty."""
    metrics = Metrics(reasons=REASONS, is_on=False)
    metrics.attempts.ok.inc()
    metrics.queue.call_seconds.observe(1.0)
    metrics.state.read()

    assert b"" == generate_latest(metrics.registry)
    assert metrics.calls is None
    assert NOTHING is metrics.shared_fetches
