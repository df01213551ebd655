"""One admin address for several workers, over a real socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import pytest

from healthomics_gateway.app.admin import AdminPages
from healthomics_gateway.app.admin_server import AdminServer
from healthomics_gateway.app.aggregation.report_poller import ReportPoller
from healthomics_gateway.app.aggregation.reporter import Reporter
from healthomics_gateway.app.aggregation.worker_reports import WorkerReports
from testkit.builders import Sandbox, aws_at, calling, gateway, get_run
from testkit.metrics import OPENMETRICS, scrape

WORKERS = 1, 2


@dataclass
class Supervised:
    """The admin address of two gateways of this process, in place of two workers."""

    reports: WorkerReports
    poller: ReportPoller
    admin_address: str = ""
    frozen: set[int] = field(default_factory=set)

    async def page(self, path: str) -> tuple[int, str]:
        """Return the status and the text of a page."""
        url = f"http://{self.admin_address}{path}"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            return response.status, await response.text()


@asynccontextmanager
async def two_workers() -> AsyncIterator[Supervised]:
    """Serve the pages of two gateways, each of which has answered a call."""
    async with AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(Sandbox())
        reporters = {}
        reports = WorkerReports(WORKERS, admin_address=lambda: supervised.admin_address)
        for number in WORKERS:
            served = await stack.enter_async_context(gateway(aws_at(sandbox.url)))
            stub = await stack.enter_async_context(calling(served))
            await get_run(stub, "1000003")
            reporters[number] = Reporter(served.parts)
            reports.started(number, 4200 + number)

        async def ask(number: int) -> object:
            if number in supervised.frozen:
                await asyncio.Event().wait()
            return await reporters[number].report()

        poller = ReportPoller(reports, ask, answer_seconds=0.5, clock=_always_new)
        supervised = Supervised(reports, poller)
        pages = AdminPages(
            reports.readiness,
            metrics=reports.metrics,
            snapshot=reports.snapshot,
            refresh=poller.refresh,
        )
        server = AdminServer(pages.pages)
        supervised.admin_address = f"127.0.0.1:{await server.start('127.0.0.1', 0)}"
        stack.push_async_callback(server.stop)
        yield supervised


_times = iter(range(1_000_000_000))


def _always_new() -> float:
    """Return a time a second after the one before, so that no report is kept."""
    return float(next(_times))


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
async def test_metrics_of_two_workers_are_one_page(accept: str) -> None:
    """Prometheus reads the page in both formats, and no series names a worker."""
    async with two_workers() as supervised:
        found = await scrape(supervised, accept=accept)
        supervised.reports.ended(2, "ended by SIGKILL")
        without = await scrape(supervised, accept=accept)

    for page in (found, without):
        assert 2 == page.value("grpc_server_started_total", grpc_method="GetRun")
        assert 2 == page.value("upstream_attempts_total", outcome="ok")
        assert 1 == page.value("ready")
    assert [2, 1] == [each.value("workers") for each in (found, without)]
    assert 0 < found.value("process_resident_memory_bytes")
    labels = {name for _, pairs in found.values for name, _ in pairs}
    assert set() == labels & {"pid", "worker"}


async def test_readiness_and_status_page_are_those_of_both() -> None:
    """The probes and the status page are about all workers, and name one that hangs."""
    async with two_workers() as supervised:
        ready = await supervised.page("/readyz?verbose")
        live = await supervised.page("/livez?verbose")
        _, as_json = await supervised.page("/statusz?format=json")
        _, html = await supervised.page("/statusz")
        supervised.frozen = {1}
        await supervised.page("/readyz")
        marked = await supervised.page("/readyz?verbose")

    parts = "listeners: ok\naws: ok\nupstream: ok\n"
    assert (200, f"{parts}workers: ok\n") == ready
    assert (200, "listeners: ok\n") == live
    state = json.loads(as_json)
    assert 2 == state["quota"][0]["used"]
    assert [4201, 4202] == [each["pid"] for each in state["workers"]]
    assert '<h2 id="workers">Workers</h2>' in html
    assert 200 == marked[0]
    assert "workers: worker 1 hasn't answered for" in marked[1]
