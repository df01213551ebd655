"""When a worker that has ended is started again."""

from __future__ import annotations

from healthomics_gateway.backoff import backoff_seconds

SERVED_SECONDS = 60.0  # a worker that has served longer starts again at once
MIN_PAUSE_SECONDS = 1.0  # before the second start in a row; doubles with each
MAX_PAUSE_SECONDS = 30.0


class Restarts:
    """The back-off of one worker."""

    def __init__(self) -> None:
        """Begin without failures."""
        self._failures = 0  # in a row

    def pause_seconds(self, served_seconds: float) -> float:
        """Return the pause after a worker has ended that has served for so long.

        The first of several failures in a row has none.
        """
        if served_seconds > SERVED_SECONDS:
            self._failures = 0
        self._failures += 1
        if self._failures == 1:
            return 0.0
        return backoff_seconds(
            self._failures - 2,
            base_seconds=MIN_PAUSE_SECONDS,
            max_seconds=MAX_PAUSE_SECONDS,
        )
