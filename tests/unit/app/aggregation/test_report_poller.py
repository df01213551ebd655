"""How the supervisor asks its workers for their reports, in virtual time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from healthomics_gateway.app.aggregation.report_poller import NEW_SECONDS, ReportPoller
from healthomics_gateway.app.aggregation.worker_reports import WorkerReports
from testkit.clocks import MonotonicClock
from testkit.reports import report
from testkit.virtual_time import virtually


class Workers:
    """Two workers that answer, hang or are gone as the test says."""

    def __init__(self) -> None:
        """Begin with two workers that answer."""
        self.clock = MonotonicClock(100.0)
        self.reports = WorkerReports((1, 2), admin_address=str, clock=self.clock)
        for number in (1, 2):
            self.reports.started(number, 4200 + number)
        self.asked: Counter[int] = Counter()
        self.hanging: dict[int, asyncio.Future[object]] = {}
        self.gone: set[int] = set()
        self.poller = ReportPoller(
            self.reports,
            self.ask,
            clock=self.clock,
            sleep=self.sleep,
        )
        self.on_sleep: Callable[[float], None] = lambda _: None

    async def ask(self, number: int) -> object:
        """Return a worker's report, or None if it can't answer."""
        self.asked[number] += 1
        await asyncio.sleep(0)
        if number in self.gone:
            return None
        if number in self.hanging:
            return await self.hanging[number]
        return report()

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.now += seconds
        self.on_sleep(seconds)

    async def refresh(self) -> None:
        """Ask anew, when the reports aren't new any more."""
        self.clock.now += NEW_SECONDS
        await self.poller.refresh()

    @property
    def silent(self) -> list[int]:
        """The workers that haven't answered in time."""
        return [each for each in (1, 2) if self.reports.is_silent(each)]


def in_virtual_time(
    test: Callable[[], Coroutine[Any, Any, None]],
) -> Callable[[], None]:
    """Run a test in virtual time."""

    def run() -> None:
        virtually(test)

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@in_virtual_time
async def test_requests_that_come_together_ask_once() -> None:
    """Requests meanwhile share the answers, and later ones for half a second."""
    workers = Workers()
    await asyncio.gather(*(workers.poller.refresh() for _ in range(8)))
    await workers.poller.refresh()
    together = dict(workers.asked)
    await workers.refresh()

    assert {1: 1, 2: 1} == together
    assert {1: 2, 2: 2} == workers.asked
    assert "" == workers.reports.readiness.why_not


@in_virtual_time
async def test_late_worker_is_marked_and_not_waited_for_again() -> None:
    """It has one request under way, and counts again when it has answered."""
    workers = Workers()
    workers.hanging[1] = asyncio.get_running_loop().create_future()
    await workers.refresh()
    late = workers.silent
    await workers.refresh()
    asked = workers.asked[1]
    workers.hanging.pop(1).set_result(report())
    await workers.refresh()

    assert ([1], 1, []) == (late, asked, workers.silent)
    assert 3 == workers.asked[2]


@in_virtual_time
async def test_worker_that_cannot_answer_is_marked() -> None:
    """It affects no other worker, and is asked again."""
    workers = Workers()
    workers.gone = {1}
    await workers.refresh()
    marked = workers.silent
    workers.gone = set()
    await workers.refresh()
    await workers.refresh()

    assert ([1], []) == (marked, workers.silent)


@in_virtual_time
async def test_answer_of_a_process_that_has_ended_is_ignored() -> None:
    """A late answer of an old process isn't taken for that of the next one."""
    workers = Workers()
    workers.hanging[1] = old = asyncio.get_running_loop().create_future()
    await workers.refresh()
    workers.reports.ended(1, "ended by SIGKILL")
    workers.reports.started(1, 4301)
    old.set_result(report())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    line = workers.reports.readiness.lines[-1]
    del workers.hanging[1]
    await workers.refresh()

    assert "workers: worker 1 is starting again (ended by SIGKILL)" == line
    assert "workers: ok" == workers.reports.readiness.lines[-1]


@in_virtual_time
async def test_request_to_a_process_that_has_ended_is_cancelled() -> None:
    """No request is left over, however many processes have ended."""
    workers = Workers()
    workers.hanging[1] = old = asyncio.get_running_loop().create_future()
    await workers.refresh()
    workers.reports.ended(1, "ended by SIGKILL")
    await workers.refresh()
    await asyncio.sleep(0)

    assert old.cancelled()


@in_virtual_time
async def test_workers_are_asked_every_few_seconds() -> None:
    """Without any request for a page, the counts are never older than that."""
    workers = Workers()
    slept: list[float] = []

    def stop(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            raise ConnectionError

    workers.on_sleep = stop
    with pytest.raises(ConnectionError):
        await workers.poller.follow()

    assert [5.0] * 3 == slept
    assert {1: 3, 2: 3} == workers.asked


@in_virtual_time
async def test_gateway_without_workers_has_nobody_to_ask() -> None:
    """A page doesn't wait while no worker runs."""
    workers = Workers()
    for number in (1, 2):
        workers.reports.ended(number, "exited with 1")
    await workers.refresh()

    assert {} == workers.asked
