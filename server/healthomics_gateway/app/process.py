"""The process of a gateway: its start, its signals, its end."""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import os
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import redirect_stderr
from functools import partial
from math import inf
from typing import Any, NoReturn

import structlog

from healthomics_gateway.app.gateway import Gateway
from healthomics_gateway.app.signals import ENDED, handle
from healthomics_gateway.settings.schema import Settings
from healthomics_gateway.telemetry.log_setup import (
    FLUSH_SECONDS,
    Printed,
    set_up_logging,
)
from healthomics_gateway.telemetry.log_writer import LogWriter
from healthomics_gateway.upstream.config import Aws

FORCED, DEAD = 1, 70  # exit codes; 70 is EX_SOFTWARE
FORCE_SECONDS = 1.5  # beyond the drain time, until the process is ended by force

_log = structlog.get_logger("process")


async def serve(
    settings: Settings,
    aws: Aws,
    *,
    started: Callable[[Gateway], Awaitable[None]] | None = None,
    force_seconds: float = FORCE_SECONDS,
) -> None:
    """Serve until SIGTERM, SIGINT or SIGHUP, then drain and end the process with 0.

    A second signal ends the drain. What lives `force_seconds` after the drain, or after
    a second signal, is ended by force. If no new call can reach the gateway any more,
    the process ends with 70. Raises ListenError if it can't listen.
    """
    log = set_up_logging(level=settings.log.level, log_format=settings.log.format)
    drain_seconds = settings.drain_time.total_seconds()
    signals = Signals(drain_seconds, force_seconds=force_seconds)
    gateway = Gateway(settings, aws, parts={"log": log.fault})
    with redirect_stderr(Printed()):
        try:
            if not await _until(signals.first, _start(gateway, started)):
                gateway.remove_sockets()
                _end_process(log, ENDED)
            if await _until(signals.first, gateway.died()):
                await gateway.evict()
                _end_process(log, DEAD)
            if not await _until(signals.second, gateway.drain(drain_seconds)):
                await gateway.evict()
            _end_process(log, ENDED)
        finally:
            await gateway.stop()


async def _start(
    gateway: Gateway, started: Callable[[Gateway], Awaitable[None]] | None
) -> None:
    await gateway.start()
    # What is there now stays. A collection that walks it too, the SDK's 100,000
    # objects, holds up every call for a tenth of a second.
    gc.collect()
    gc.freeze()
    if started:
        await started(gateway)


class Signals:
    """The signals that end the process; a second ends the drain, a third the process.

    The process ends in time even if the event loop is held up: faulthandler's watchdog,
    which doesn't depend on Python's interpreter, then ends it with exit code 1.
    """

    def __init__(
        self,
        drain_seconds: float,
        *,
        force_seconds: float = FORCE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        end_in: Callable[[float], None] | None = None,
        end_now: Callable[[int], object] = os._exit,
    ) -> None:
        """Handle signals; the process ends in time after the first, whatever follows.

        It is ended by force `force_seconds` after a drain of `drain_seconds`, or after
        a second signal if that is earlier. `end_in` has the watchdog end the process
        after so many seconds, whatever it was given before. `end_now` ends the process
        with an exit code.
        """
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        self._drain_seconds = drain_seconds
        self._force_seconds = force_seconds
        self._clock = clock
        self._end_in = end_in or _watchdog()
        self._end_now = end_now
        self._end = inf  # by the clock: when the watchdog ends the process
        self._heard = 0
        self._loop = asyncio.get_running_loop()
        handle(self._hear)

    def _hear(self, _number: int, _frame: Any) -> None:
        """Run between two instructions of the main thread, whatever it does."""
        if self._loop.is_closed():
            return  # the process is about to end by itself
        self._heard += 1
        if self._heard == 1:
            self._end_within(self._drain_seconds + self._force_seconds)
            self._loop.call_soon_threadsafe(self.first.set)
        elif self._heard == 2:  # noqa: PLR2004  # the event's name
            self._end_within(self._force_seconds)
            self._loop.call_soon_threadsafe(self.second.set)
        else:
            self._end_now(FORCED)

    def _end_within(self, seconds: float) -> None:
        """Have the process end after so long, but no later than was said before."""
        end = self._clock() + seconds
        if end < self._end:
            self._end = end
            self._end_in(seconds)


def _watchdog() -> Callable[[float], None]:
    nowhere = os.open(os.devnull, os.O_WRONLY)  # for what it writes
    return partial(faulthandler.dump_traceback_later, exit=True, file=nowhere)


async def _until(event: asyncio.Event, work: Coroutine[Any, Any, Any]) -> bool:
    """Return whether `work` has ended before the event; cancel it if it hasn't."""
    waiting = asyncio.create_task(event.wait())
    working = asyncio.create_task(work)
    await asyncio.wait((waiting, working), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if not working.done():
        working.cancel()
        return False
    await working  # raises what it has raised
    return True


def _end_process(log: LogWriter, code: int) -> NoReturn:
    """End without stopping the gRPC server.

    A server that stops cancels whoever calls before having heard of it. The end of the
    process cuts the connections instead, and then a call is UNAVAILABLE.
    """
    _log.info("stopped", exit_code=code)
    log.flush(FLUSH_SECONDS)
    os._exit(code)
