"""The metrics of the process that supervises the workers, and serves no calls."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector

from healthomics_gateway.telemetry.metrics.families import Family, families_of
from healthomics_gateway.telemetry.metrics.state import Reader, State


class SupervisorMetrics:
    """The metrics of this process, and what it knows about the gateway."""

    def __init__(self, readers: Mapping[str, Reader]) -> None:
        """Read the state with `readers`, by the names in `STATE`."""
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._state = State(self._registry)
        self._state.observe(readers)

    def families(self) -> list[Family]:
        """Return the metrics as they are now."""
        self._state.read()
        return families_of(self._registry)
