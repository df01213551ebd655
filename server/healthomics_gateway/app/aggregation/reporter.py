"""Makes the reports of a worker."""

from __future__ import annotations

from functools import partial
from typing import Any

import orjson

from healthomics_gateway.app.aggregation.report import Report
from healthomics_gateway.app.parts import Parts
from healthomics_gateway.app.statusz.collect import Collector
from healthomics_gateway.app.statusz.shape import Snapshot
from healthomics_gateway.services.readiness import PartState
from healthomics_gateway.telemetry.metrics.families import families_of
from healthomics_gateway.telemetry.metrics.registry import Metrics
from healthomics_gateway.threads import OneAtATime


class Reporter:
    """Makes the reports of a worker; requests that come meanwhile share one."""

    def __init__(self, parts: Parts) -> None:
        """Report the state of `parts`; the time since now is the uptime."""
        self._parts = parts
        self._collector = Collector(parts, admin_address=str)
        self._thread = OneAtATime("report")

    async def report(self) -> dict[str, Any]:
        """Return the state of all parts as JSON has it: read here, made in a thread."""
        status = await self._collector.snapshot()
        readiness = self._parts.readiness
        metrics = self._parts.observability.metrics
        metrics.read()
        make = partial(
            _made,
            metrics,
            parts=readiness.parts,
            why_not=readiness.why_not,
            is_dead=readiness.is_dead,
            status=status,
        )
        return await self._thread.run(make)


def _made(
    metrics: Metrics,
    *,
    parts: list[PartState],
    why_not: str,
    is_dead: bool,
    status: Snapshot,
) -> dict[str, Any]:
    report = Report(
        metrics=families_of(metrics.registry),
        parts=parts,
        why_not=why_not,
        is_dead=is_dead,
        status=status,
    )
    data: dict[str, Any] = orjson.loads(orjson.dumps(report, option=orjson.OPT_UTC_Z))
    return data
