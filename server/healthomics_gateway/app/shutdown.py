"""The signals that end a gateway that serves, and the time that it has to end."""

from __future__ import annotations

import asyncio
import faulthandler
import os
import time
from collections.abc import Callable, Coroutine
from functools import partial
from math import inf
from typing import Any, NoReturn

from healthomics_gateway.app.signals import handle
from healthomics_gateway.telemetry.log_setup import FLUSH_SECONDS
from healthomics_gateway.telemetry.log_writer import LogWriter

FIRST, SECOND = 1, 2  # how many signals have arrived
FORCED = 1  # exit code
DEAD = 70  # exit code: new calls can no longer arrive; EX_SOFTWARE
FORCE_SECONDS = 1.5  # after the drain time, until the process is ended by force


class Signals:
    """Handles the signals: the first starts the drain, a second ends it.

    A third ends the process when the log is written, or after FLUSH_SECONDS. It also
    ends in time if the event loop is blocked: the watchdog of faulthandler, a thread in
    C, then ends it with exit code 1.
    """

    def __init__(
        self,
        drain_seconds: float,
        *,
        force_seconds: float = FORCE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        end_in: Callable[[float], None] | None = None,
        end_now: Callable[[int], object],
        reloads: bool = False,
    ) -> None:
        """Install the signal handlers; with `reloads`, SIGHUP only sets `reload`.

        The watchdog ends the process `force_seconds` after a drain of `drain_seconds`,
        or after a second signal if that is earlier. `end_in` sets the watchdog to a
        number of seconds, replacing the earlier one. `end_now` ends the process with an
        exit code.
        """
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        self.reload = asyncio.Event()
        self.drain_seconds = drain_seconds
        self._force_seconds = force_seconds
        self._clock = clock
        self._end_in = end_in or _watchdog()
        self._end_now = end_now
        self._end = inf  # time at which the watchdog ends the process
        self._received = 0
        self._loop = asyncio.get_running_loop()
        handle(self._receive, reloading=self._request_reload if reloads else None)

    def drain(self, seconds: float) -> None:
        """Begin the drain as the first signal does, with this drain time."""
        if self._received < FIRST:
            self.drain_seconds = seconds
            self._receive(0, None)

    def end(self) -> None:
        """End the drain as a second signal does."""
        while self._received < SECOND:
            self._receive(0, None)

    def force(self) -> None:
        """End the process as a third signal does."""
        self._end_now(FORCED)

    def _receive(self, _number: int, _frame: Any) -> None:
        """Handle a signal; Python calls this between two instructions."""
        if self._loop.is_closed():
            return  # the process is about to end by itself
        self._received += 1
        if self._received == FIRST:
            self._end_within(self.drain_seconds + self._force_seconds)
            self._loop.call_soon_threadsafe(self.first.set)
        elif self._received == SECOND:
            self._end_within(self._force_seconds)
            self._loop.call_soon_threadsafe(self.second.set)
        else:
            self._end_now(FORCED)

    def _request_reload(self, _number: int, _frame: Any) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.reload.set)

    def _end_within(self, seconds: float) -> None:
        """Set the watchdog, unless it already ends the process earlier."""
        end = self._clock() + seconds
        if end < self._end:
            self._end = end
            self._end_in(seconds)


async def until(event: asyncio.Event, work: Coroutine[Any, Any, Any]) -> bool:
    """Return whether `work` ends before the event; cancel it if it doesn't."""
    waiting = asyncio.create_task(event.wait())
    working = asyncio.create_task(work)
    await asyncio.wait((waiting, working), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if not working.done():
        working.cancel()
        return False
    await working  # raises its exception
    return True


def end_now(log: LogWriter, code: int) -> NoReturn:
    """End the process when the log is written, or after FLUSH_SECONDS."""
    log.flush(FLUSH_SECONDS)
    os._exit(code)


def _watchdog() -> Callable[[float], None]:
    null = os.open(os.devnull, os.O_WRONLY)  # for the traceback
    return partial(faulthandler.dump_traceback_later, exit=True, file=null)
