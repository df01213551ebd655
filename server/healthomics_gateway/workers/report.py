"""A worker's report to the supervisor's pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # gRPC is imported only after the fork
    from healthomics_gateway.app.aggregation.reporter import Reporter
    from healthomics_gateway.app.gateway import Gateway


class Reports:
    """Makes the reports of this process's gateway."""

    def __init__(self) -> None:
        """Begin before the gateway exists."""
        self._reporter: Reporter | None = None

    async def make(self, gateway: Gateway) -> Mapping[str, Any]:
        """Return the state of the gateway, as the supervisor reads it."""
        from healthomics_gateway.app.aggregation.reporter import Reporter  # noqa: PLC0415  # it loads gRPC

        if self._reporter is None:
            self._reporter = Reporter(gateway.parts)
        return await self._reporter.report()
