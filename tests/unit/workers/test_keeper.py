"""Keeping workers alive, with fake processes, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from structlog.testing import capture_logs

from healthomics_gateway.app.aggregation.worker_reports import WorkerReports
from healthomics_gateway.configuration_error import ConfigurationError
from healthomics_gateway.control import Message
from healthomics_gateway.shared.store import Rate
from healthomics_gateway.telemetry.metrics.state import PREFIX
from healthomics_gateway.workers.child import MAX_START_MISSES
from healthomics_gateway.workers.children import Children
from healthomics_gateway.workers.keeper import NO_ZYGOTE, Keeper, StartError
from healthomics_gateway.workers.pings import MAX_MISSES
from healthomics_gateway.workers.zygote_link import Exit
from testkit.fake_workers import Process, Zygote
from testkit.virtual_time import virtually

START = {"ports": {"admin": 1, "listeners": [2]}, "sandbox": ""}


class Observer:
    """Notes the reports about reloads."""

    def __init__(self) -> None:
        """Begin without reports."""
        self.reports: list[str] = []

    def ready(self) -> None:
        """Note the end of a reload."""
        self.reports.append("ready")

    def reloading(self) -> None:
        """Note the beginning of a reload."""
        self.reports.append("reloading")


class Rig:
    """A keeper of two workers, and the processes that it has started."""

    def __init__(self, number: int = 2) -> None:
        """Keep that many workers."""
        self.zygote = Zygote()
        self.children = Children()
        self.reports = WorkerReports(range(number), admin_address=str)
        self.observer: Any = Observer()
        link: Any = self.zygote
        self.keeper = Keeper(
            link,
            self.children,
            reports=self.reports,
            number=number,
            observer=self.observer,
            content=b"first",
            clock=asyncio.get_running_loop().time,
        )
        self.keeper.open(START)
        self.tasks = [
            asyncio.create_task(self.keeper.keep(each)) for each in range(number)
        ]

    async def started(self) -> tuple[Process, Process]:
        """Return the processes of both workers, which serve."""
        both = [await self.zygote.processes.get() for _ in range(2)]
        for each in both:
            await each.serve()
        await self.keeper.started
        first, second = sorted(both, key=lambda each: each.number)
        return first, second

    def end(self, process: Process, how: Exit) -> None:
        """End a process."""
        process.control.close()
        self.zygote.ended(process.number, how)

    def stop(self) -> None:
        """Cancel what runs."""
        for each in self.tasks:
            each.cancel()
        for child in self.children.by_number.values():
            child.control.close()


def kept(work: Callable[[Rig], Coroutine[Any, Any, None]], number: int = 2) -> None:
    """Run a test with a keeper, in virtual time."""

    async def run() -> None:
        rig = Rig(number)
        await work(rig)
        rig.stop()
        await asyncio.gather(*rig.tasks, return_exceptions=True)

    virtually(run)


def test_gateway_has_started_when_all_workers_serve() -> None:
    """Each worker gets the ports and the content of the file."""

    async def work(rig: Rig) -> None:
        first = await rig.zygote.processes.get()
        second = await rig.zygote.processes.get()
        assert Message(START, b"first") == await first.serve()
        assert not rig.keeper.started.done()
        await second.serve()
        await rig.keeper.started
        assert {first.number: first.pid, second.number: second.pid} == (
            rig.reports.running()
        )

    kept(work)


@pytest.mark.guarantee("workers-replaced")
def test_worker_that_ends_is_started_again() -> None:
    """At once the first time, then with a growing pause."""

    async def work(rig: Rig) -> None:
        first, _ = await rig.started()
        times = []
        with capture_logs() as logs:
            for how in (Exit(code=-9), Exit(code=70), Exit(code=2)):
                ended_at = asyncio.get_running_loop().time()
                rig.end(first, how)
                first = await rig.zygote.processes.get()
                times.append(asyncio.get_running_loop().time() - ended_at)
                await first.serve()
        ends = [each for each in logs if each["event"] == "worker_ended"]
        assert [0, 1, 2] == times
        assert ["SIGKILL", None, None] == [each.get("signal") for each in ends]
        assert [None, 70, 2] == [each.get("exit_code") for each in ends]
        assert {0} == {each["worker"] for each in ends}
        assert [101, 103, 104] == [each["pid"] for each in ends]

    kept(work)


@pytest.mark.guarantee("workers-replaced")
def test_fault_of_the_first_start_ends_the_gateway() -> None:
    """It is raised as that of a single process, and isn't logged."""

    async def work(rig: Rig) -> None:
        first, second = [await rig.zygote.processes.get() for _ in range(2)]
        first.control.note("faults", Message(["listen: it can't be bound"]))
        await first.settle()
        with capture_logs() as logs:
            rig.end(first, Exit(code=2))
            with pytest.raises(ConfigurationError, match="listen: it can't be bound"):
                await rig.keeper.started
        rig.end(second, Exit(code=2))
        assert [] == logs

    kept(work)


def test_worker_that_ends_in_its_first_start_ends_the_gateway() -> None:
    """So there is no loop of crashes."""

    async def work(rig: Rig) -> None:
        process = await rig.zygote.processes.get()
        rig.end(process, Exit(code=-11))
        with pytest.raises(StartError, match="worker 0 has ended before it served"):
            await rig.keeper.started

    kept(work, number=1)


def test_worker_that_cannot_be_forked_is_tried_again() -> None:
    """The reason is logged, and the failure counted."""

    async def work(rig: Rig) -> None:
        first, _ = await rig.started()
        rig.zygote.fault = "Resource temporarily unavailable"
        with capture_logs() as logs:
            rig.end(first, Exit(code=0))
            await asyncio.sleep(0.5)
            rig.zygote.fault = ""
            await rig.zygote.processes.get()
        assert [None, "Resource temporarily unavailable"] == [
            each.get("why") for each in logs
        ]
        (line,) = rig.reports.readiness.lines
        assert "worker 0 is starting again (Resource temporarily unavailable)" in line
        rig.reports.metrics.read()
        families = {each.name: each for each in rig.reports.metrics.collect()}
        (sample,) = families[PREFIX + "worker_start_failures"].samples
        assert 1 == sample.value

    kept(work)


def test_worker_without_a_zygote_was_not_started() -> None:
    """It has no process id, and no end that could be logged."""

    async def work(rig: Rig) -> None:
        rig.zygote.closed.set()
        with capture_logs() as logs, pytest.raises(StartError, match="wasn't started"):
            await rig.keeper.started
        assert [("worker_not_started", NO_ZYGOTE)] * 2 == [
            (each["event"], each["why"]) for each in logs
        ]

    kept(work)


@pytest.mark.guarantee("workers-replaced")
def test_worker_that_answers_no_ping_is_killed() -> None:
    """A worker that serves has 15 s, and one that starts has a minute."""

    async def work(rig: Rig) -> None:
        rig.tasks.append(asyncio.create_task(rig.keeper.watch()))
        first, second = await rig.started()
        await asyncio.sleep(1000.5)
        assert [] == rig.zygote.killed
        second.is_frozen = True
        await asyncio.sleep(MAX_MISSES)
        assert [] == rig.zygote.killed
        with capture_logs() as logs:
            await asyncio.sleep(1)
        assert [second.pid] == rig.zygote.killed
        assert [("worker_frozen", 1, second.pid)] == [
            (each["event"], each["worker"], each["pid"]) for each in logs
        ]
        rig.end(second, Exit(code=-9))
        starting = await rig.zygote.processes.get()
        starting.is_frozen = True
        await asyncio.sleep(MAX_START_MISSES)
        assert [second.pid] == rig.zygote.killed
        await asyncio.sleep(1)
        assert [second.pid, starting.pid] == rig.zygote.killed
        assert first.pid not in rig.zygote.killed

    kept(work)


async def reloaded(process: Process, content: bytes, *, read_at: float) -> None:
    """Let a process report that it uses a content which it has read at this time."""
    process.control.note("reloading")
    process.control.note("uses", Message(read_at, content))
    process.control.note("ready")
    await process.settle()


@pytest.mark.guarantee("workers-rules")
def test_new_content_reaches_all_workers() -> None:
    """The others reload when one uses it; a later worker starts with it."""

    async def work(rig: Rig) -> None:
        first, second = await rig.started()
        await reloaded(first, b"second", read_at=1.0)
        await second.settle()
        assert [0, 1] == [each.orders["reload"] for each in (first, second)]
        assert ["reloading"] == rig.observer.reports
        await reloaded(second, b"second", read_at=2.0)
        assert [0, 1] == [each.orders["reload"] for each in (first, second)]
        assert ["reloading", "ready"] == rig.observer.reports
        rig.end(second, Exit(code=0))
        third = await rig.zygote.processes.get()
        assert Message(START, b"second") == await third.serve()
        assert 0 == third.orders["reload"]

    kept(work)


@pytest.mark.guarantee("workers-rules")
def test_older_content_never_replaces_a_newer_one() -> None:
    """A worker that is slow to reload the file of before reloads it again."""

    async def work(rig: Rig) -> None:
        first, second = await rig.started()
        for each in (first, second):
            each.control.note("reloading")
            await each.settle()
        await reloaded(first, b"third", read_at=2.0)
        await reloaded(second, b"second", read_at=1.0)
        assert [0, 1] == [each.orders["reload"] for each in (first, second)]
        rig.end(first, Exit(code=0))
        new = await rig.zygote.processes.get()
        assert Message(START, b"third") == await new.serve()
        await reloaded(second, b"third", read_at=1.5)
        await reloaded(second, b"second", read_at=3.0)  # it was put back
        await new.settle()
        assert [1, 1] == [each.orders["reload"] for each in (new, second)]

    kept(work)


def test_worker_that_starts_during_a_reload_reloads() -> None:
    """It has begun with the content of before."""

    async def work(rig: Rig) -> None:
        first, second = await rig.started()
        rig.end(second, Exit(code=0))
        third = await rig.zygote.processes.get()
        await third.control.ask("join", seconds=1)
        first.control.note("uses", Message(3.0, b"second"))
        await first.settle()
        third.control.note("ready")
        await third.settle()
        assert 1 == third.orders["reload"]

    kept(work)


def test_reload_of_a_worker_that_ends_has_ended() -> None:
    """A reload that is requested reaches each worker that serves, once."""

    async def work(rig: Rig) -> None:
        first, second = await rig.started()
        rig.keeper.reload()
        rig.keeper.reload()
        await second.settle()
        assert [1, 1] == [each.orders["reload"] for each in (first, second)]
        first.control.note("ready")
        await first.settle()
        assert ["reloading"] == rig.observer.reports
        rig.end(second, Exit(code=0))
        await rig.zygote.processes.get()
        assert ["reloading", "ready"] == rig.observer.reports

    kept(work)


def test_worker_that_ends_in_a_drain_is_not_started_again() -> None:
    """An end that isn't a drain's is logged."""

    async def work(rig: Rig) -> None:
        first, second = await rig.started()
        rig.children.is_draining = True
        with capture_logs() as logs:
            rig.end(first, Exit(code=0))
            rig.end(second, Exit(code=1))
            await asyncio.gather(*rig.tasks)
        assert [1] == [each["exit_code"] for each in logs]
        assert {} == rig.reports.running()
        assert None is await rig.keeper.keep(2)

    kept(work)


def test_worker_that_does_not_report_has_no_report() -> None:
    """The pages don't wait for it."""

    async def work(rig: Rig) -> None:
        _, second = await rig.started()
        second.is_frozen = True
        assert {"why_not": ""} == await rig.children.report_of(0)
        assert None is await rig.children.report_of(1)

    kept(work)


def test_workers_share_a_store_and_leave_it_with_their_end() -> None:
    """A value reaches its subscribers, and a lease is free when its holder ends."""

    async def work(rig: Rig) -> None:
        first, second = await rig.started()
        got: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
        second.store.deliver_to(lambda *what: got.put_nowait(what))
        await second.store.subscribe("run")
        for each, name in ((first, "a"), (second, "b")):
            await each.store.beat(name, is_attached=True, known=2)
        claim = {"period_seconds": 5.0}
        await first.store.claim("run", "state", replica="a", **claim)
        held = await second.store.claim("run", "state", replica="b", **claim)
        await first.store.write("run", "state", b"value", age_seconds=0, keep_seconds=9)
        assert ("run", b"value") == await got.get()
        assert "a" == held.holder
        reserved = await first.store.reserve("q", Rate(10, 1), replica="a")
        assert 10 == reserved.tps
        rig.end(first, Exit(code=-9))
        assert ("run", b"") == await got.get()
        members = await second.store.beat("b", is_attached=True, known=2)
        assert frozenset("b") == members.attached

    kept(work)
