"""The supervisor, with fake worker processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from healthomics_gateway.app.sd_notify import ServiceManager
from healthomics_gateway.app.shutdown import DEAD, FORCED
from healthomics_gateway.app.signals import ENDED
from healthomics_gateway.configuration_error import ConfigurationError
from healthomics_gateway.control import Message
from healthomics_gateway.net.addresses import Address
from healthomics_gateway.settings.schema import Settings
from healthomics_gateway.telemetry.log_lock import LogLock
from healthomics_gateway.workers.program import Program
from healthomics_gateway.workers.supervisor import KILL_SECONDS, Supervisor
from healthomics_gateway.workers.zygote_link import Exit
from testkit.fake_workers import Process, Zygote

ANY = Address("127.0.0.1", 0)
SETTINGS = Settings(listen=ANY, admin_listen=ANY, workers=2)
MAX_SECONDS = 20.0  # that nothing needs


class Signals:
    """The signals that the test sends."""

    def __init__(self) -> None:
        """Begin without any."""
        self.first, self.second, self.reload = (asyncio.Event() for _ in range(3))
        self.drain_seconds = 30.0

    def drain(self, seconds: float) -> None:
        """Begin the drain as the first signal does."""
        assert self.drain_seconds == seconds
        self.first.set()


class Rig:
    """A supervisor that runs, and what it uses."""

    def __init__(self) -> None:
        """Run it."""
        self.zygote = Zygote()
        self.signals = Signals()
        self.third = asyncio.Event()
        stand_ins: Any = self.zygote, self.signals, None
        link, signals, aws = stand_ins
        supervisor = Supervisor(
            Program(
                settings=SETTINGS,
                config=None,
                aws=aws,
                log_lock=LogLock(),
                secret=b"secret",
            ),
            link,
            signals=signals,
            third=self.third,
            observer=ServiceManager({}),
        )
        self.run = asyncio.create_task(supervisor.run(started=self._started))
        self.addresses: asyncio.Queue[str] = asyncio.Queue()

    async def _started(self, _address: Any, admin_address: Address) -> None:
        self.addresses.put_nowait(str(admin_address))

    async def processes(self) -> tuple[Process, Process]:
        """Return the processes of both workers, which start."""
        return await self.zygote.processes.get(), await self.zygote.processes.get()

    async def started(self) -> tuple[Process, Process]:
        """Return the processes of both workers, which serve."""
        first, second = await self.processes()
        await first.serve()
        await second.serve()
        await self.addresses.get()
        return first, second

    def end(self, process: Process, code: int) -> None:
        """End a process."""
        process.control.close()
        self.zygote.ended(process.number, Exit(code=code))


@asynccontextmanager
async def supervised() -> AsyncIterator[Rig]:
    """Run a supervisor."""
    async with asyncio.timeout(MAX_SECONDS):
        rig = Rig()
        yield rig
        rig.run.cancel()
        await asyncio.gather(rig.run, return_exceptions=True)


async def test_requested_reload_reaches_all_workers() -> None:
    """A signal is passed on once."""
    async with supervised() as rig:
        both = await rig.started()
        rig.signals.reload.set()
        while not all(each.orders["reload"] for each in both):
            await both[0].settle()

        assert [1, 1] == [each.orders["reload"] for each in both]
        assert not rig.signals.reload.is_set()


async def test_drain_ends_with_the_last_worker() -> None:
    """All become unready at once; a worker that was killed makes the exit code 1."""
    async with supervised() as rig:
        first, second = await rig.started()
        rig.signals.first.set()
        while not first.orders["drain"]:
            await first.settle()
        await second.settle()
        assert [1, 1] == [each.orders["unready"] for each in (first, second)]
        assert 0 == second.orders["drain"]
        rig.end(first, 0)
        while not second.orders["drain"]:
            await second.settle()
        rig.end(second, -9)

        assert FORCED == await rig.run
        assert [30 + KILL_SECONDS] == rig.zygote.ends


async def test_second_and_third_signal_reach_all_workers() -> None:
    """The second ends the drains, and the third the processes."""
    async with supervised() as rig:
        both = await rig.started()
        for event, order in (
            (rig.signals.first, "unready"),
            (rig.signals.second, "end"),
            (rig.third, "end_now"),
        ):
            event.set()
            while not all(each.orders[order] for each in both):
                await both[0].settle()
        for each in both:
            rig.end(each, 0)

        assert FORCED == await rig.run
        assert [30 + KILL_SECONDS, KILL_SECONDS, 0.5] == rig.zygote.ends


async def test_second_signal_ends_with_0() -> None:
    """All workers have ended by themselves."""
    async with supervised() as rig:
        both = await rig.started()
        rig.signals.first.set()
        rig.signals.second.set()
        while not all(each.orders["end"] for each in both):
            await both[0].settle()
        for each in both:
            rig.end(each, 0)

        assert ENDED == await rig.run


async def test_signal_during_the_start_ends_the_workers() -> None:
    """A worker that starts gets the order too."""
    async with supervised() as rig:
        both = await rig.processes()
        rig.signals.first.set()
        while not any(each.orders["drain"] for each in both):
            await both[0].settle()
        for each in both:
            rig.end(each, 0)

        assert ENDED == await rig.run


async def test_gateway_drains_and_ends_with_its_zygote() -> None:
    """No worker could be started again, so the exit code asks for a restart.

    A worker has ended when its connection is closed, and then the next one drains.
    """
    async with supervised() as rig:
        first, second = await rig.started()
        with capture_logs() as logs:
            rig.zygote.closed.set()
            while not first.orders["drain"]:
                await first.settle()
            await second.settle()
            assert [1, 0] == [second.orders[each] for each in ("unready", "drain")]
            first.control.close()
            while not second.orders["drain"]:
                await second.settle()
            second.control.close()
            assert DEAD == await rig.run

        assert ["zygote_ended", "draining"] == [each["event"] for each in logs]
        assert rig.signals.first.is_set()  # the watchdog ends it in time


async def test_drain_ends_without_the_zygote() -> None:
    """It isn't known how the workers have ended, so the exit code isn't 0."""
    async with supervised() as rig:
        first, second = await rig.started()
        rig.signals.first.set()
        while not first.orders["drain"]:
            await first.settle()
        rig.zygote.closed.set()
        first.control.close()
        second.control.close()

        assert FORCED == await rig.run


async def test_gateway_whose_zygote_ends_in_the_start_ends() -> None:
    """A worker that isn't forked would be waited for without end."""
    async with supervised() as rig:
        first, second = await rig.processes()
        rig.zygote.closed.set()
        with capture_logs() as logs:
            first.control.close()
            while not second.orders["drain"]:
                await second.settle()
            second.control.close()
            assert DEAD == await rig.run

        assert ["worker_ended", "start_failed"] == [each["event"] for each in logs]


async def test_worker_that_ends_in_its_first_start_ends_the_gateway() -> None:
    """The exit code asks for a restart."""
    async with supervised() as rig:
        first, second = await rig.processes()
        with capture_logs() as logs:
            rig.end(first, -11)
            while not second.orders["drain"]:
                await second.settle()
            rig.end(second, 0)
            assert DEAD == await rig.run

        assert ["worker_ended", "start_failed"] == [each["event"] for each in logs]


async def test_fault_of_a_worker_is_raised() -> None:
    """The other worker is ended first."""
    async with supervised() as rig:
        first, second = await rig.processes()
        first.control.note("faults", Message(["listen: it can't be bound"]))
        await first.settle()
        rig.end(first, 2)
        while not second.orders["drain"]:
            await second.settle()
        rig.end(second, 0)

        with pytest.raises(ConfigurationError, match="listen: it can't be bound"):
            await rig.run
