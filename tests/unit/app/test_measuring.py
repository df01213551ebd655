"""The metrics of a gateway, and how each method is measured."""

from __future__ import annotations

from healthomics_gateway.app.measuring import make_metrics, measure_for
from healthomics_gateway.services.names import HEALTH
from healthomics_gateway.services.reflection import served_methods
from healthomics_gateway.telemetry.metrics.registry import Metrics


def test_every_served_method_has_series() -> None:
    """All methods of all services are known to the metrics, with their kinds."""
    families = make_metrics().registry.collect()
    started = next(each for each in families if each.name == "grpc_server_started")
    known = {
        f"/{each.labels['grpc_service']}/{each.labels['grpc_method']}"
        for each in started.samples
    }

    assert {path for path, *_ in served_methods()} <= known
    assert f"/{HEALTH}/Watch" in known


def test_methods_are_not_measured_without_metrics() -> None:
    """If the metrics are off, no interceptor is added to a method."""
    measure = measure_for(Metrics(is_on=False), without_rules=frozenset())

    assert () == measure(f"/{HEALTH}/Check", "unary").interceptors
