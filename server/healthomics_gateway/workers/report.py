"""A worker's report to the supervisor's pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # gRPC is imported only after the fork
    from healthomics_gateway.app.gateway import Gateway


async def make_report(gateway: Gateway) -> Mapping[str, Any]:
    """Return why the gateway isn't ready, and whether new calls can't reach it."""
    readiness = gateway.parts.readiness
    return {"why_not": readiness.why_not, "is_dead": readiness.is_dead}
