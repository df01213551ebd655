"""Processes that can be frozen, as by SIGSTOP, in one event loop with virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import ContextVar, copy_context
from typing import Any

from testkit.virtual_time import VirtualLoop

_process: ContextVar[Process | None] = ContextVar("_process", default=None)


class Process:
    """Tasks that can be frozen, and that end together."""

    def __init__(self) -> None:
        """Begin without tasks."""
        self._held: list[Any] | None = None
        self._context = copy_context()
        self._context.run(_process.set, self)
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a coroutine, and all tasks that it creates, in this process."""
        task = asyncio.get_running_loop().create_task(work, context=self._context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def run(self, work: Callable[[], Any]) -> Any:
        """Call a function in this process."""
        return self._context.run(work)

    async def freeze(self, seconds: float) -> None:
        """Run nothing of it for a time; then all that should have run meanwhile."""
        if self._held is not None:
            return
        self._held = []
        await asyncio.sleep(seconds)
        held, self._held = self._held, None
        for cell, callback, arguments, context in held:
            loop = asyncio.get_running_loop()
            loop.call_soon(
                _unless_cancelled, cell, callback, arguments, context=context
            )

    def kill(self) -> None:
        """End all tasks at once."""
        for task in tuple(self._tasks):
            task.cancel()

    def holds(self, *call: Any) -> bool:
        """Keep a callback for later if it is frozen; return whether it is."""
        if self._held is None:
            return False
        self._held.append((*call, copy_context()))
        return True


class FreezingLoop(VirtualLoop):
    """An event loop with virtual time, and with processes."""

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> Any:
        """Call it in the next round, unless its process is frozen then."""
        cell: list[asyncio.Handle] = []
        cell.append(
            super().call_soon(_unless_frozen, cell, callback, *args, context=context)
        )
        return cell[0]

    def call_at(
        self, when: float, callback: Any, *args: Any, context: Any = None
    ) -> Any:
        """Call it at a time, unless its process is frozen then."""
        cell: list[asyncio.Handle] = []
        cell.append(
            super().call_at(
                when, _unless_frozen, cell, callback, *args, context=context
            )
        )
        return cell[0]


def _unless_frozen(
    cell: list[asyncio.Handle], callback: Callable[..., Any], *arguments: Any
) -> None:
    process = _process.get()
    if process is None or not process.holds(cell, callback, arguments):
        callback(*arguments)


def _unless_cancelled(
    cell: list[asyncio.Handle], callback: Callable[..., Any], arguments: Any
) -> None:
    if not cell[0].cancelled():
        callback(*arguments)


def with_processes(work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Run a coroutine in virtual time; it may freeze processes."""
    with asyncio.Runner(loop_factory=FreezingLoop) as runner:
        return runner.run(work())
