"""Runs blocking work in daemon threads, which may hang without harm.

The event loop's own executor has few threads, and the process waits for them at exit.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

_T = TypeVar("_T")


class OneAtATime:
    """Runs blocking work, such as reading a file, in one thread at a time.

    Work that hangs, such as on a network file system, uses only one thread.
    """

    def __init__(self, name: str) -> None:
        """Name the thread `name`."""
        self._name = name
        self._running: asyncio.Future[Any] | None = None

    async def run(self, work: Callable[[], _T]) -> _T:
        """Return what `work` returns, or raise what it raises.

        If earlier work hasn't ended, wait for its result instead. So all work of one
        instance must be of the same kind. Cancellation ends the wait, not the work.
        """
        if self._running is None or self._running.done():
            self._running = _start(work, self._name)
            self._running.add_done_callback(retrieve)
        result: _T = await asyncio.shield(self._running)
        return result


class AtMost:
    """Runs blocking work in at most `number` threads, in the order in which it comes.

    Work that is cancelled while it waits uses no thread. Work in a thread can't be
    cancelled: the thread counts until the work has ended.
    """

    def __init__(
        self,
        number: int,
        name: str,
        *,
        begin: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Name the threads `name`; `begin` is awaited before each starts."""
        self._free = asyncio.Semaphore(number)
        self._name = name
        self._begin = begin

    async def run(self, work: Callable[[], _T]) -> _T:
        """Return what `work` returns, or raise what it raises."""
        await self._free.acquire()
        try:
            if self._begin:
                await self._begin()
            running = _start(work, self._name)
        except BaseException:
            self._free.release()
            raise
        running.add_done_callback(self._end)
        return await asyncio.shield(running)

    def _end(self, done: asyncio.Future[Any]) -> None:
        self._free.release()
        retrieve(done)


async def in_thread(work: Callable[[], _T], *, name: str) -> _T:
    """Run `work` in its own thread; return what it returns, or raise what it raises."""
    return await _start(work, name)


def _start(work: Callable[[], _T], name: str) -> asyncio.Future[_T]:
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_T] = loop.create_future()

    def settle(result: _T | None, error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error:
            done.set_exception(error)
        else:
            done.set_result(cast("_T", result))

    def run() -> None:
        result, failure = None, None
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001  # passed on to the future
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop may have been closed
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=run, name=name, daemon=True).start()
    return done


def retrieve(done: asyncio.Future[Any]) -> None:
    """Mark the exception of a future as retrieved, as no task may wait for it."""
    if not done.cancelled():
        done.exception()
