"""The bucket of tokens of one AWS account: whose turn is next, and at what rate."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from math import inf
from typing import TYPE_CHECKING

from healthomics_gateway.errors import NotAskedError, Reason
from healthomics_gateway.runs import NOBODY, Caller

if TYPE_CHECKING:
    from healthomics_gateway.runs import Call

MARGIN_SECONDS = 0.02  # before its deadline a call is told that its turn won't come
CUT = 0.7  # of the rate, after a throttle
CUT_EVERY_SECONDS = 1.0  # at most: throttles that come together are one
RECOVERY_SECONDS = 50.0  # from nothing back to the whole rate
LEAST_TPS = 0.5
WHOLE = 1 - 1e-6  # token: sums of fractions fall short of one
MAX_CALLERS = 8192  # and their connections, whose last turns are known
MAX_POLL_SHARE = 0.9  # of the turns, while calls wait too


@dataclass(slots=True, eq=False)
class _Ticket:
    """A call that waits for its turn; it stands in the queue of each of its callers."""

    call: Call
    caller: Caller  # for the estimate: the one whose turn seemed the first as it came
    is_poll: bool  # as it came
    turn: asyncio.Future[None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Pacer:
    """A bucket of tokens for one AWS account and Region.

    It fills by `tps` a second up to `burst`. The caller that was served longest ago has
    the next turn, and of its connections the one that was; a call that many wait for
    has the turn of the first of them, who is charged. While calls and polls both wait,
    polls get `poll_share` of the turns. A throttle cuts the rate by 0.7; it is back
    after 50 s without any.
    """

    def __init__(
        self,
        *,
        tps: float,
        burst: float,
        poll_share: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with a full bucket; `clock` is the deadlines'."""
        self._tps = tps
        self._burst = burst
        self._poll_share = min(poll_share, MAX_POLL_SHARE)
        self._clock = clock
        self.rate = tps  # tokens a second, at the moment
        self._tokens = float(burst)
        self._filled = clock()  # when the tokens were last counted
        self._cut = -inf  # when the rate was last cut
        self._tickets: dict[Call, _Ticket] = {}  # in the order they came
        self._waiting = {True: _Waiting(), False: _Waiting()}  # polls and calls
        self._turns = count(1)
        # By caller's name, and by caller: the oldest first.
        self._last_turn: dict[str | Caller, int] = {}
        self._poll_credit = 0.0  # turns that polls are owed
        self._timer: asyncio.TimerHandle | None = None

    async def turn(self, call: Call) -> None:
        """Wait for a token, or raise UPSTREAM_THROTTLED where none comes in time."""
        self._fill()
        if not self._tickets and self._tokens >= WHOLE:
            self._tokens -= 1
            self._charge(self._first(call))
            return
        wait = self.expected_wait(call)
        if self._clock() + wait > call.deadline:
            raise refusal(wait)
        ticket = self._queue(call)
        self._give()
        try:
            while not ticket.turn.done():  # callers who join may bring more time
                left = call.deadline - MARGIN_SECONDS - self._clock()
                if left <= 0:
                    raise refusal(self.expected_wait(call))
                await asyncio.wait(
                    (ticket.turn,), timeout=None if left == inf else left
                )
        finally:
            if call in self._tickets:
                self._take(ticket)

    def throttled(self) -> None:
        """Slow down, once for all throttles within a second."""
        self._fill()
        now = self._clock()
        if now - self._cut >= CUT_EVERY_SECONDS:
            self._cut = now
            self.rate = max(self.rate * CUT, LEAST_TPS)
            self._tokens = min(self._tokens, 0.0)

    def expected_wait(self, call: Call) -> float:
        """Tell in how many seconds it would be this call's turn."""
        self._fill()
        turns = 1 + (self._turns_before(call) if self._tickets else 0)
        return max(0.0, turns - self._tokens) / self.rate

    def _turns_before(self, call: Call) -> float:
        """Estimate the turns that others have first, each caller one in a round."""
        is_poll = call.is_poll
        waiting, others = self._waiting[is_poll], self._waiting[not is_poll].total
        ticket = self._tickets.get(call)
        own = ticket.caller if ticket and ticket.is_poll is is_poll else None
        turns = min((waiting.before(each, own) for each in call.callers), default=0)
        share = self._poll_share if is_poll else 1 - self._poll_share
        return turns + min(others, turns * (1 - share) / share + 1)

    def _queue(self, call: Call) -> _Ticket:
        ticket = _Ticket(call, self._first(call), call.is_poll)
        self._tickets[call] = ticket
        self._waiting[ticket.is_poll].add(ticket.caller, 1)
        return ticket

    def _take(self, ticket: _Ticket) -> None:
        del self._tickets[ticket.call]
        self._waiting[ticket.is_poll].add(ticket.caller, -1)

    def _first(self, call: Call) -> Caller:
        """Tell which of a call's callers was served longest ago."""
        return min(call.callers, key=self._served, default=NOBODY)

    def _served(self, caller: Caller) -> tuple[int, int]:
        last = self._last_turn
        return last.get(caller.name, 0), last.get(caller, 0)

    def _fill(self) -> None:
        now = self._clock()
        seconds, self._filled = now - self._filled, now
        self._tokens = min(self._tokens + seconds * self.rate, self._burst)
        gained = seconds * self._tps / RECOVERY_SECONDS
        self.rate = min(self.rate + gained, self._tps)

    def _give(self) -> None:
        """Give the tokens that are there; come back for the next."""
        self._fill()
        while self._tickets and self._tokens >= WHOLE:
            self._tokens -= 1
            ticket = self._next()
            self._take(ticket)
            self._charge(self._first(ticket.call))
            ticket.turn.set_result(None)
        if self._tickets and self._timer is None:
            seconds = (1 - self._tokens) / self.rate
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(seconds, self._come_back)

    def _come_back(self) -> None:
        self._timer = None
        self._give()

    def _next(self) -> _Ticket:
        """Give the ticket whose caller was served longest ago."""
        first: dict[bool, tuple[tuple[int, int], _Ticket]] = {}  # of polls and of calls
        for call, ticket in self._tickets.items():
            served = min(map(self._served, call.callers), default=(0, 0))
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

    def _charge(self, caller: Caller) -> None:
        turn = next(self._turns)
        for each in (caller.name, caller):
            self._last_turn.pop(each, None)
            self._last_turn[each] = turn
        while len(self._last_turn) > MAX_CALLERS:
            del self._last_turn[next(iter(self._last_turn))]


class _Waiting:
    """How many wait, by caller and connection."""

    def __init__(self) -> None:
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


def refusal(wait_seconds: float) -> NotAskedError:
    """Tell that no token comes in time, and when one would."""
    return NotAskedError(
        Reason.UPSTREAM_THROTTLED,
        metadata={"local": "true"},
        wait_seconds=wait_seconds,
    )
