"""Blocking work beside the event loop, in threads that may hang without harm.

The loop's own executor has few threads, and a process that ends waits for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

_T = TypeVar("_T")


class OneAtATime:
    """Runs blocking work, such as reading a file, never two pieces at once.

    Work that hangs, on a pipe or a network file system, uses one thread and no more.
    """

    def __init__(self, name: str) -> None:
        """Run nothing yet; `name` is the thread's."""
        self._name = name
        self._running: asyncio.Future[Any] | None = None

    async def run(self, work: Callable[[], _T]) -> _T:
        """Return what `work` returns, or raise what it raises.

        Where earlier work hasn't ended, that is waited for instead, so all work of one
        instance must be of the same kind. Cancellation ends the wait, not the work.
        """
        if self._running is None or self._running.done():
            self._running = _started(work, self._name)
            self._running.add_done_callback(retrieve)
        result: _T = await asyncio.shield(self._running)
        return result


class AtMost:
    """Runs blocking work in at most `number` threads, in the order it comes.

    Work that is cancelled as it waits takes no thread. A thread can't be cancelled:
    it counts until its work has ended.
    """

    def __init__(
        self,
        number: int,
        name: str,
        *,
        begin: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Run nothing yet; `name` is the threads', `begin` is awaited before each."""
        self._free = asyncio.Semaphore(number)
        self._name = name
        self._begin = begin

    async def run(self, work: Callable[[], _T]) -> _T:
        """Return what `work` returns, or raise what it raises."""
        await self._free.acquire()
        try:
            if self._begin:
                await self._begin()
            running = _started(work, self._name)
        except BaseException:
            self._free.release()
            raise
        running.add_done_callback(self._end)
        return await asyncio.shield(running)

    def _end(self, done: asyncio.Future[Any]) -> None:
        self._free.release()
        retrieve(done)


async def in_thread(work: Callable[[], _T], *, name: str) -> _T:
    """Return what `work` returns, or raise what it raises, from a thread of its own."""
    return await _started(work, name)


def _started(work: Callable[[], _T], name: str) -> asyncio.Future[_T]:
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
    """Mark the exception of a future as retrieved: nobody may be waiting for it."""
    if not done.cancelled():
        done.exception()
