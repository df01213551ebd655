"""An event loop that knows how much CPU time its longest callback took."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextvars import Context
from typing import Any

from grpc.aio import EOF


class MeasuringLoop(asyncio.SelectorEventLoop):
    """Times each callback by the CPU time of its thread, which no neighbour adds to."""

    def __init__(self) -> None:
        """Begin with nothing measured."""
        super().__init__()
        self.forget()

    def forget(self) -> None:
        """Begin to measure anew."""
        self.longest_seconds = 0.0
        self.longest = ""  # what it was

    def call_soon(
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Measure what is called soon: the steps of tasks, too."""
        return super().call_soon(self._timed, callback, *args, context=context)

    def call_soon_threadsafe(
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Measure what other threads hand in."""
        return super().call_soon_threadsafe(
            self._timed, callback, *args, context=context
        )

    def call_at(
        self,
        when: float,
        callback: Callable[..., Any],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Measure what is called later."""
        return super().call_at(when, self._timed, callback, *args, context=context)

    def _add_reader(self, fd: Any, callback: Callable[..., Any], *args: Any) -> Any:
        return super()._add_reader(fd, self._timed, callback, *args)

    def _add_writer(self, fd: Any, callback: Callable[..., Any], *args: Any) -> Any:
        return super()._add_writer(fd, self._timed, callback, *args)

    def _timed(self, callback: Callable[..., Any], *args: Any) -> None:
        begun = time.thread_time()
        try:
            callback(*args)
        finally:
            seconds = time.thread_time() - begun
            if seconds > self.longest_seconds and not _is_of_a_client(callback):
                self.longest_seconds = seconds
                self.longest = repr(getattr(callback, "__self__", callback))


def _is_of_a_client(callback: Callable[..., Any]) -> bool:
    """Tell the end of a client's stream from what the gateway does.

    gRPC reads it in a task of its own, and does there what a thousand other streams
    that end in that moment have left to do.
    """
    task = getattr(callback, "__self__", None)
    if not isinstance(task, asyncio.Task) or not task.done() or task.cancelled():
        return False
    return task.exception() is None and task.result() is EOF
