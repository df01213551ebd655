"""An event loop that measures the CPU time of its longest callback."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextvars import Context
from typing import Any

from grpc.aio import EOF


class MeasuringLoop(asyncio.SelectorEventLoop):
    """Measures the CPU time of each callback, which excludes other processes."""

    def __init__(self) -> None:
        """Begin without a measurement."""
        super().__init__()
        self.forget()

    def forget(self) -> None:
        """Discard the measurement."""
        self.longest_seconds = 0.0
        self.longest = ""  # the longest callback

    def call_soon(
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Measure a callback that is called soon, also a step of a task."""
        return super().call_soon(self._timed, callback, *args, context=context)

    def call_soon_threadsafe(
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Measure a callback from another thread."""
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
        """Measure a callback that is called later."""
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
    """Return whether a callback ends a client's stream: not the gateway's work.

    gRPC handles it in a separate task, which may also do the remaining work of a
    thousand other streams that end at that moment.
    """
    task = getattr(callback, "__self__", None)
    if not isinstance(task, asyncio.Task) or not task.done() or task.cancelled():
        return False
    return task.exception() is None and task.result() is EOF
