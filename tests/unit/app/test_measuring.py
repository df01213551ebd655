"""The metrics of a gateway, and how each method is measured."""

from __future__ import annotations

from healthomics_gateway.app.measuring import add_methods, make_metrics, measure_for
from healthomics_gateway.services.names import CHANNELZ, HEALTH
from healthomics_gateway.telemetry.metrics.registry import Metrics


def test_every_method_of_the_services_has_series() -> None:
    """The methods of the given services are known before they are called."""
    metrics = make_metrics()
    add_methods(metrics, (HEALTH, CHANNELZ))
    families = metrics.registry.collect()
    started = next(each for each in families if each.name == "grpc_server_started")
    found = [
        (each.labels["grpc_service"], each.labels["grpc_method"])
        for each in started.samples
        if each.labels["grpc_service"] != "unknown"
    ]

    assert {HEALTH, CHANNELZ} == {service for service, _ in found}
    assert (HEALTH, "Watch") in found
    assert (CHANNELZ, "GetServers") in found


def test_methods_are_not_measured_without_metrics() -> None:
    """If the metrics are off, no interceptor is added to a method."""
    measure = measure_for(Metrics(is_on=False), without_rules=frozenset())

    assert () == measure(f"/{HEALTH}/Check", "unary").interceptors
