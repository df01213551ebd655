"""An event loop with virtual time: an hour of sleep takes no time."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any

NEVER_SECONDS = 86_400.0  # the longest wait of asyncio


class _Jumping(selectors.SelectSelector):
    """A selector that doesn't wait: without events time advances to the next timer."""

    def __init__(self) -> None:
        """Begin at 1000 seconds."""
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> Any:
        """Return the events that are ready."""
        events = super().select(0)
        if not events:
            if timeout is None or timeout >= NEVER_SECONDS:
                raise RuntimeError("nothing will ever happen")
            self.now += timeout
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop with virtual time."""

    def __init__(self) -> None:
        """Begin at 1000 seconds."""
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Return the virtual time, in seconds."""
        return self._jumping.now


def virtually(work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Run a coroutine in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work())


def now() -> float:
    """Return the time of the loop that runs, which begins at 1000 s."""
    return asyncio.get_running_loop().time()
