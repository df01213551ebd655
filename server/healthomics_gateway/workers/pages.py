"""The admin pages of a gateway with workers, which its supervisor serves."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from healthomics_gateway.app.admin import AdminPages
from healthomics_gateway.app.admin_server import Page
from healthomics_gateway.app.aggregation.report_poller import ReportPoller
from healthomics_gateway.app.aggregation.worker_reports import WorkerReports
from healthomics_gateway.net.addresses import Address
from healthomics_gateway.workers.children import Children


class Pages:
    """The admin pages, from what all workers report."""

    def __init__(
        self, children: Children, *, number: int, admin_address: Callable[[], Address]
    ) -> None:
        """Ask the `number` workers of `children` for their reports."""
        self.reports = WorkerReports(
            range(number), admin_address=lambda: str(admin_address())
        )
        poller = ReportPoller(self.reports, children.report_of)
        self.follow: Callable[[], Coroutine[Any, Any, None]] = poller.follow
        self.by_path: Mapping[str, Page] = AdminPages(
            self.reports.readiness,
            metrics=self.reports.metrics,
            snapshot=self.reports.snapshot,
            refresh=poller.refresh,
        ).pages
