"""Which caller is next: equal shares for callers, and for the connections of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import count

from healthomics_gateway.runs import NOBODY, Caller

MAX_CALLERS = 8192  # and their connections, whose last turns are known


class LastTurns:
    """When each caller, and each connection of it, had its last turn."""

    def __init__(self) -> None:
        """Begin without any."""
        self._turns = count(1)
        # By caller's name, and by caller: the oldest first.
        self._last: dict[str | Caller, int] = {}

    def of(self, caller: Caller) -> tuple[int, int]:
        """Return the numbers of a caller's last turn and its connection's; 0: none."""
        return self._last.get(caller.name, 0), self._last.get(caller, 0)

    def first(self, callers: Iterable[Caller]) -> Caller:
        """Return the one of these callers that had its last turn longest ago."""
        return min(callers, key=self.of, default=NOBODY)

    def charge(self, caller: Caller) -> None:
        """Note that a caller has a turn now."""
        turn = next(self._turns)
        for each in (caller.name, caller):
            self._last.pop(each, None)
            self._last[each] = turn
        while len(self._last) > MAX_CALLERS:
            del self._last[next(iter(self._last))]


class Waiting:
    """How many calls wait, by caller and connection."""

    def __init__(self) -> None:
        """Begin without any."""
        self._of: dict[str, Counter[Caller]] = {}  # by caller's name
        self.total = 0

    def add(self, caller: Caller, number: int) -> None:
        """Count so many more."""
        of = self._of.setdefault(caller.name, Counter())
        of[caller] += number
        self.total += number
        if not of[caller]:
            del of[caller]
        if not of:
            del self._of[caller.name]

    def before(self, caller: Caller, own: Caller | None) -> int:
        """Count the turns before that of this caller's next; `own` is one of those.

        In each round every caller has a turn, and its connections take turns in it.
        """
        mine = self._of.get(caller.name, Counter[Caller]())
        ahead = mine[caller] - (own == caller)
        turns = sum(min(each, ahead + 1) for each in mine.values())
        turns -= mine[caller] > ahead
        others = (of.total() for name, of in self._of.items() if name != caller.name)
        return turns + sum(min(each, turns + 1) for each in others)
