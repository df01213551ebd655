"""An event loop whose time passes at once: an hour of sleep takes none."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any

NEVER_SECONDS = 86_400.0  # as far as asyncio looks ahead


class _Jumping(selectors.SelectSelector):
    """Waits for nothing: where nothing has happened, time goes on to what is due."""

    def __init__(self) -> None:
        """Begin at 1000 seconds."""
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> Any:
        """Give what has happened by now."""
        events = super().select(0)
        if not events:
            if timeout is None or timeout >= NEVER_SECONDS:
                raise RuntimeError("nothing will ever happen")
            self.now += timeout
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """Keeps a time of its own."""

    def __init__(self) -> None:
        """Begin at 1000 seconds."""
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Tell its time, in seconds."""
        return self._jumping.now


def virtually(work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Run it in time of its own."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work())
