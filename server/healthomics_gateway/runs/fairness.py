"""The order of the calls that wait: equal shares for callers and their connections."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

from healthomics_gateway.runs.source import NO_CALLER, Caller

if TYPE_CHECKING:
    from healthomics_gateway.runs.source import Call

MAX_CALLERS = 8192  # and connections, whose last turns are kept
MAX_POLL_SHARE = 0.9  # of the turns, while calls wait too


@dataclass(slots=True, eq=False)
class Ticket:
    """A call that waits for its turn, on behalf of one or more callers."""

    call: Call
    caller: Caller  # for estimates: the first in turn of its callers, when it came
    is_poll: bool  # when it came
    is_ready: Callable[[], bool]
    turn: asyncio.Future[bool] = field(  # whether the call may be sent
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class TurnQueue:
    """The calls that wait for their turn.

    The next turn belongs to the caller whose last turn was longest ago, and among its
    connections to the one whose last turn was longest ago. A call with several callers
    takes the turn of the first in this order, and only this one is charged. While calls
    and polls both wait, polls get `poll_share` of the turns.
    """

    def __init__(self, *, poll_share: float) -> None:
        """Create an empty queue."""
        self._poll_share = min(poll_share, MAX_POLL_SHARE)
        self._tickets: dict[Call, Ticket] = {}  # in the order they came
        self._waiting = {True: Waiting(), False: Waiting()}  # polls and calls
        self._last = LastTurns()
        self._poll_credit = 0.0  # turns that polls are owed

    def __len__(self) -> int:
        """Return the number of calls that wait."""
        return len(self._tickets)

    def __contains__(self, call: Call) -> bool:
        """Return whether a call waits."""
        return call in self._tickets

    @property
    def polls(self) -> int:
        """The number of those that were polls when they came."""
        return self._waiting[True].total

    def add(self, call: Call, is_ready: Callable[[], bool]) -> Ticket:
        """Add a call; return its ticket."""
        ticket = Ticket(call, self._last.first(call.callers), call.is_poll, is_ready)
        self._tickets[call] = ticket
        self._waiting[ticket.is_poll].add(ticket.caller, 1)
        return ticket

    def remove(self, ticket: Ticket) -> None:
        """Remove a call."""
        del self._tickets[ticket.call]
        self._waiting[ticket.is_poll].add(ticket.caller, -1)

    def charge(self, call: Call) -> None:
        """Charge the turn of a call to the first in turn of its callers."""
        self._last.charge(self._last.first(call.callers))

    def turns_before(self, call: Call) -> float:
        """Return the estimated number of turns before the call's.

        Each caller has one turn per round.
        """
        is_poll = call.is_poll
        waiting, others = self._waiting[is_poll], self._waiting[not is_poll].total
        ticket = self._tickets.get(call)
        own = ticket.caller if ticket and ticket.is_poll is is_poll else None
        turns = min((waiting.before(each, own) for each in call.callers), default=0)
        share = self._poll_share if is_poll else 1 - self._poll_share
        return turns + min(others, turns * (1 - share) / share + 1)

    def next(self) -> Ticket:
        """Return the ticket of the call that has the next turn."""
        first: dict[bool, tuple[tuple[int, int], Ticket]] = {}  # of polls and of calls
        for call, ticket in self._tickets.items():
            served = min(map(self._last.of, call.callers), default=(0, 0))
            is_poll = call.is_poll
            if is_poll not in first or served < first[is_poll][0]:
                first[is_poll] = served, ticket
        if len(first) == 1:
            ((_, ticket),) = first.values()
            return ticket
        self._poll_credit += self._poll_share
        is_poll = self._poll_credit >= 1
        self._poll_credit -= is_poll
        return first[is_poll][1]


class LastTurns:
    """The last turn of each caller, and of each of its connections."""

    def __init__(self) -> None:
        """Begin before any turn."""
        self._turns = count(1)
        # By caller's name, and by caller: the oldest first.
        self._last: dict[str | Caller, int] = {}

    def of(self, caller: Caller) -> tuple[int, int]:
        """Return the numbers of the last turns of a caller and its connection, or 0."""
        return self._last.get(caller.name, 0), self._last.get(caller, 0)

    def first(self, callers: Iterable[Caller]) -> Caller:
        """Return the caller whose last turn was longest ago."""
        return min(callers, key=self.of, default=NO_CALLER)

    def charge(self, caller: Caller) -> None:
        """Count a turn of a caller and its connection."""
        turn = next(self._turns)
        for each in (caller.name, caller):
            self._last.pop(each, None)
            self._last[each] = turn
        while len(self._last) > MAX_CALLERS:
            del self._last[next(iter(self._last))]


class Waiting:
    """The numbers of calls that wait, by caller and connection."""

    def __init__(self) -> None:
        """Begin with no calls."""
        self._of: dict[str, Counter[Caller]] = {}  # by caller's name
        self.total = 0

    def add(self, caller: Caller, number: int) -> None:
        """Add `number` calls of a caller, or remove them if it is negative."""
        of = self._of.setdefault(caller.name, Counter())
        of[caller] += number
        self.total += number
        if not of[caller]:
            del of[caller]
        if not of:
            del self._of[caller.name]

    def before(self, caller: Caller, own: Caller | None) -> int:
        """Return the number of turns before that of the caller's next call.

        If `own` is the caller, the call is one of those that wait. Each caller has one
        turn per round, and its connections share its turns equally.
        """
        mine = self._of.get(caller.name, Counter[Caller]())
        ahead = mine[caller] - (own == caller)
        turns = sum(min(each, ahead + 1) for each in mine.values())
        turns -= mine[caller] > ahead
        others = (of.total() for name, of in self._of.items() if name != caller.name)
        return turns + sum(min(each, turns + 1) for each in others)
