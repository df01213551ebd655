"""Builds the metrics that a worker reports."""

from __future__ import annotations

from healthomics_gateway.telemetry.metrics.families import (
    Family,
    ReportedExemplar,
    ReportedSample,
)


def counter(name: str, value: float, **labels: str) -> Family:
    """Return a counter with one series."""
    return Family(
        name, "counter", "Help.", [ReportedSample(f"{name}_total", labels, value)]
    )


def gauge(name: str, value: float, **labels: str) -> Family:
    """Return a gauge with one series."""
    return Family(name, "gauge", "Help.", [ReportedSample(name, labels, value)])


def histogram(name: str, *values: float, request_id: str, at: float = 1.0) -> Family:
    """Return a histogram of values up to 1, with an exemplar of this time."""
    exemplar = ReportedExemplar({"request_id": request_id}, values[-1], at)
    return Family(
        name,
        "histogram",
        "Help.",
        [
            ReportedSample(f"{name}_bucket", {"le": "1.0"}, len(values), exemplar),
            ReportedSample(f"{name}_bucket", {"le": "+Inf"}, len(values)),
            ReportedSample(f"{name}_count", {}, len(values)),
            ReportedSample(f"{name}_sum", {}, sum(values)),
        ],
    )
