"""The metrics of a gateway, and how each method is measured."""

from __future__ import annotations

from collections.abc import Iterable

from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.interceptors.chain import KINDS, UNARY
from healthomics_gateway.interceptors.metrics import Measure, Measured, measure
from healthomics_gateway.services.reflection import methods_of
from healthomics_gateway.telemetry.metrics.registry import Metrics


def make_metrics() -> Metrics:
    """Create the metrics of a gateway, without the series of methods."""
    return Metrics(reasons=[each.name for each in Reason])


def add_methods(metrics: Metrics, services: Iterable[str]) -> None:
    """Create the series of all methods of services, given by their full names."""
    if metrics.calls:
        for path, *streams in methods_of(services):
            metrics.calls.of(*_names_of(path), KINDS[streams[0], streams[1]])


def measure_for(metrics: Metrics, *, without_rules: frozenset[str]) -> Measure:
    """Return how each method is measured; rules don't apply to some services."""

    def measured(path: str, kind: str) -> Measured:
        if metrics.calls is None:
            return Measured()
        service, method = _names_of(path)
        return measure(
            metrics.calls.of(service, method, kind),
            is_unary=kind == UNARY,
            refusals=metrics.refusals,
            rules=None if service in without_rules else metrics.rules,
        )

    return measured


def _names_of(path: str) -> tuple[str, str]:
    """Return the names of a path's service and method."""
    service, _, method = path.strip("/").partition("/")
    return service, method
