"""The supervisor: it holds the addresses, and starts and ends the workers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from typing import Any, TypeAlias

import structlog

from healthomics_gateway.app.admin_server import AdminServer
from healthomics_gateway.app.announcement import announce
from healthomics_gateway.app.shutdown import DEAD, FORCED, Signals, until
from healthomics_gateway.app.signals import ENDED
from healthomics_gateway.app.supervision import StateObserver
from healthomics_gateway.background import Background
from healthomics_gateway.configuration_error import ConfigurationError
from healthomics_gateway.net.addresses import Address, UnixPath
from healthomics_gateway.settings.listener_settings import listeners_of
from healthomics_gateway.settings.schema import Settings
from healthomics_gateway.workers.child import Child
from healthomics_gateway.workers.children import Children
from healthomics_gateway.workers.drain import drain_in_turn, wait_for_all
from healthomics_gateway.workers.keeper import Keeper, StartError
from healthomics_gateway.workers.pages import Pages
from healthomics_gateway.workers.ports import Ports, reserve
from healthomics_gateway.workers.program import Program
from healthomics_gateway.workers.zygote_link import ZygoteLink

KILL_SECONDS = 1.6  # after a drain, until the workers that are left are killed
FORCE_SECONDS = 1.9  # after the drain time, until the supervisor ends by force
LAST_SECONDS = 0.5  # for workers to write their logs, after a third signal

# Gets the address of `listen`, and the admin address, with their real ports.
Started: TypeAlias = Callable[[Address | UnixPath, Address], Awaitable[None]]

_log = structlog.get_logger("supervisor")


class Supervisor:
    """Serves the admin pages, and all else by workers."""

    def __init__(
        self,
        program: Program,
        link: ZygoteLink,
        *,
        signals: Signals,
        third: asyncio.Event,
        observer: StateObserver,
    ) -> None:
        """Create it; `third` is set by the third signal, which ends all at once."""
        self._settings = program.settings
        self._link = link
        self._signals = signals
        self._third = third
        self._observer = observer
        self._children = Children()
        self._admin_address = self._settings.admin_listen
        self._pages = Pages(
            self._children,
            number=self._settings.workers,
            admin_address=lambda: self._admin_address,
        )
        self._keeper = Keeper(
            link,
            self._children,
            reports=self._pages.reports,
            number=self._settings.workers,
            observer=observer,
            content=program.config.content if program.config else b"",
        )
        self._admin = AdminServer(self._pages.by_path)
        self._background = Background()

    async def run(self, *, sandbox: str = "", started: Started | None = None) -> int:
        """Serve until a signal; return the exit code.

        Raises ConfigurationError if an address can't be bound, or a worker has a fault.
        `sandbox` is the URL of the sandbox for the workers, if there is one.
        """
        with ExitStack() as held:
            ports = await self._listen(held)
            self._keeper.open({"ports": asdict(ports), "sandbox": sandbox})
            for number in range(self._settings.workers):
                keep = partial(self._keeper.keep, number)
                self._background.start(f"worker {number}", keep)
            self._background.start("pings", self._keeper.watch)
            self._background.start("zygote", self._link.watch)
            self._background.start("reports", self._pages.follow)
            self._background.start("reloads", self._pass_on_reloads)
            starting = self._start(ports.applied_to(self._settings), started)
            try:
                return await self._serve(starting)
            finally:
                await self._background.stop()
                await self._admin.stop()

    async def _listen(self, held: ExitStack) -> Ports:
        """Hold all addresses, and serve the admin pages; return the ports."""
        faults: list[str] = []
        try:
            self._admin_address = await self._admin.listen(self._admin_address)
        except ConfigurationError as error:
            faults.extend(error.args)
        listeners, others = await reserve(self._settings, held)
        if faults := [*faults, *others]:
            await self._admin.stop()
            raise ConfigurationError(*faults)
        return Ports(admin=self._admin_address.port, listeners=listeners)

    async def _start(self, settings: Settings, started: Started | None) -> None:
        """Wait until all workers serve; `settings` have the real ports."""
        await asyncio.shield(self._keeper.started)
        self._observer.ready()
        self._observer.feed_watchdog(asyncio.get_running_loop().call_later)
        addresses = [each.address for each in listeners_of(settings)]
        announce(
            settings,
            addresses=addresses,
            admin_address=settings.admin_listen,
            workers=settings.workers,
        )
        if started:
            await started(settings.listen, settings.admin_listen)

    async def _serve(self, starting: Coroutine[Any, Any, None]) -> int:
        is_dead = False
        try:
            if await until(self._signals.first, starting) and await until(
                self._signals.first, self._link.closed.wait()
            ):
                _log.error("zygote_ended")  # no worker could be started again
                is_dead = True
                self._signals.drain(self._signals.drain_seconds)
        except StartError as error:
            _log.error("start_failed", why=str(error))
            await self._end(0.0)
            return DEAD
        except ConfigurationError:
            await self._end(0.0)
            raise
        self._observer.stopping()
        seconds = self._signals.drain_seconds
        _log.info("draining", seconds=seconds)
        code = await self._end(seconds)
        return DEAD if is_dead else code

    async def _end(self, seconds: float) -> int:
        """End all workers within `seconds` and KILL_SECONDS; return the exit code."""
        self._drain()
        children = self._children.running
        self._link.end_within(seconds + KILL_SECONDS)
        for each in children:
            each.control.note("unready")
        if await until(self._signals.second, drain_in_turn(children, seconds)):
            return _code_of(children)
        self._link.end_within(KILL_SECONDS)
        for each in children:
            each.control.note("end")
        if await until(self._third, wait_for_all(children)):
            return _code_of(children)
        self._link.end_within(LAST_SECONDS)
        for each in children:
            each.control.note("end_now")
        await wait_for_all(children)
        return FORCED

    def _drain(self) -> None:
        """Become unready for good."""
        self._children.is_draining = True
        self._pages.reports.readiness.drain()

    async def _pass_on_reloads(self) -> None:
        """Let all workers reload when a signal asks for it."""
        while True:
            await self._signals.reload.wait()
            self._signals.reload.clear()
            self._keeper.reload()


def _code_of(children: Sequence[Child]) -> int:
    """Return the exit code after a drain: FORCED if a worker didn't end by itself."""
    codes = {each.ended.result().code for each in children}
    return ENDED if codes <= {ENDED} else FORCED
