"""Counts the pings that a process hasn't answered."""

from __future__ import annotations

PING_SECONDS = 1.0  # between two pings
MAX_MISSES = 15  # pings in a row without an answer


class Pings:
    """The pings of one process.

    They are counted, and no time is measured: a supervisor that was stopped has sent
    none meanwhile.
    """

    def __init__(self) -> None:
        """Begin before the first ping."""
        self._misses = 0

    def sent(self, most: int = MAX_MISSES) -> bool:
        """Count a ping; return whether more than `most` have had no answer."""
        self._misses += 1
        return self._misses > most

    def answered(self) -> None:
        """Begin again: the process has answered."""
        self._misses = 0
