"""The requests of the last minutes, counted by periods of a few seconds."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

PERIOD_SECONDS = 10.0
PERIODS = 90  # 15 minutes


class RecentUse:
    """Counts requests in the last `PERIODS` periods of `PERIOD_SECONDS`."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin without requests; `clock` counts seconds."""
        self._clock = clock
        self._numbers = deque([0] * PERIODS, maxlen=PERIODS)
        self._period = self._current()

    def note(self) -> None:
        """Count one request now."""
        self._advance()
        self._numbers[-1] += 1

    def numbers(self) -> tuple[int, ...]:
        """Return the number of each period, the oldest first, the current one last."""
        self._advance()
        return tuple(self._numbers)

    def _current(self) -> int:
        return int(self._clock() // PERIOD_SECONDS)

    def _advance(self) -> None:
        now = self._current()
        self._numbers.extend([0] * min(now - self._period, PERIODS))
        self._period = now
