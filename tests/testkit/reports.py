"""Builds the reports of workers, as they arrive at the supervisor."""

from __future__ import annotations

from typing import Any

import orjson

from healthomics_gateway.app.aggregation.report import Report
from healthomics_gateway.services.readiness import PartState
from healthomics_gateway.telemetry.metrics.state import PREFIX
from testkit.families import counter, gauge
from testkit.snapshots import at_rest

READY = (PartState("listeners", "", ""), PartState("aws", "", ""))


def report(*, calls: float = 0.0, **changes: Any) -> dict[str, Any]:
    """Return the report of a worker that has counted so many calls."""
    members = {
        "metrics": [
            counter("calls", calls),
            gauge(f"{PREFIX}workers", 1),
            gauge(f"{PREFIX}ready", float(not changes.get("why_not"))),
            gauge("process_resident_memory_bytes", 90 * 2**20),
        ],
        "parts": READY,
        "why_not": "",
        "is_dead": False,
        "status": at_rest(),
    }
    made = Report(**{**members, **changes})
    data: dict[str, Any] = orjson.loads(orjson.dumps(made))
    return data


def unready(why: str = "GATEWAY_CREDENTIALS_INVALID", **changes: Any) -> dict[str, Any]:
    """Return the report of a worker whose identity AWS refuses."""
    parts = READY[0], PartState("aws", why, "")
    return report(why_not=why, parts=parts, **changes)
