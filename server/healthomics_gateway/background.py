"""Runs background tasks, and restarts each that fails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import structlog

MIN_PAUSE_SECONDS = 1.0  # before a restart; doubles with each failure in a row
MAX_PAUSE_SECONDS = 60.0

_log = structlog.get_logger("supervision")


class Background:
    """The background tasks of a gateway, by name."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """Begin without tasks."""
        self._clock = clock
        self._sleep = sleep
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._faults: dict[str, str] = {}

    def fault(self, name: str) -> str:
        """Return why the task of this name is stopped, or an empty string."""
        return self._faults.get(name, "")

    def runs(self, name: str) -> bool:
        """Return whether the task of this name runs or waits for its restart."""
        return name in self._tasks and not self._tasks[name].done()

    def start(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `work` until it returns, and restart it each time that it raises.

        The pause before a restart is 1 s, and doubles up to a minute. It is 1 s again
        after `work` has run for a minute or longer.
        """
        self._tasks[name] = asyncio.create_task(self._supervise(name, work))

    async def stop(self) -> None:
        """Cancel every task, and wait until each has ended."""
        tasks = tuple(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _supervise(
        self, name: str, work: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        pause_seconds = MIN_PAUSE_SECONDS
        while True:
            begun = self._clock()
            self._faults.pop(name, None)
            failure = await _failure_of(work())
            if failure is None:
                return
            if self._clock() - begun >= MAX_PAUSE_SECONDS:
                pause_seconds = MIN_PAUSE_SECONDS
            why = type(failure).__name__
            self._faults[name] = f"its task failed with {why} and will be restarted"
            _log.error("background_task_ended", task=name, exc_info=failure)
            await self._sleep(pause_seconds)
            pause_seconds = min(2 * pause_seconds, MAX_PAUSE_SECONDS)


async def _failure_of(run: Coroutine[Any, Any, None]) -> BaseException | None:
    """Await `run` and return what it raises, except this task's own cancellation."""
    try:
        await run
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        return error  # something that it awaited was cancelled
    except Exception as error:  # noqa: BLE001  # a background task is restarted after any failure
        return error
    return None
