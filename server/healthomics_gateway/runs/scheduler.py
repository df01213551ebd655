"""The queue of the calls to one AWS account: whose turn is next, and when it comes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING

from healthomics_gateway.errors.exceptions import NotAskedError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.runs.fairness import Line
from healthomics_gateway.runs.quota import Gate, Quota
from healthomics_gateway.token_bucket import WHOLE

if TYPE_CHECKING:
    from healthomics_gateway.runs.bulkhead import Bulkhead
    from healthomics_gateway.runs.source import Call

MARGIN_SECONDS = 0.02  # before its deadline a call is told that its turn won't come


class Scheduler:
    """The calls to one AWS account and Region, and the rate at which they are sent.

    A call has its turn when there are a token for it, a free place, and nobody whose
    turn has come and whose request still waits to leave. `Line` orders those who wait.
    """

    def __init__(
        self,
        *,
        tps: float,
        burst: float,
        poll_share: float,
        places: Bulkhead,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with a full bucket.

        While calls and polls both wait, polls get `poll_share` of the turns. `clock` is
        the deadlines'.
        """
        self._bucket = Quota(tps=tps, burst=burst, clock=clock)
        self._gate = Gate(self._bucket, opened=self._give)
        self._places = places
        self._clock = clock
        self._line = Line(poll_share=poll_share)
        self._timer: asyncio.TimerHandle | None = None

    async def turn(
        self, call: Call, *, is_ready: Callable[[], bool] = lambda: True
    ) -> float | None:
        """Wait for the turn of a call that is ready to be sent.

        Return when it began, for `leave` once the call has ended; or None if the turn
        had come and the call was no longer ready: it took nothing. Raises
        UPSTREAM_THROTTLED if no token comes in time, and GATEWAY_OVERLOADED if no place
        does.
        """
        if not self._line and self._may_give():
            self._spend(call)
            return self._clock()
        wait = self.expected_wait(call)
        if self._clock() + wait > call.deadline:
            raise self.refusal(wait)
        ticket = self._line.add(call, is_ready)
        self._give()
        try:
            while not ticket.turn.done():  # callers who join may bring more time
                left = call.deadline - MARGIN_SECONDS - self._clock()
                if left <= 0:
                    raise self.refusal(self.expected_wait(call))
                await asyncio.wait(
                    (ticket.turn,), timeout=None if left == inf else left
                )
        except asyncio.CancelledError:
            if ticket.turn.done() and ticket.turn.result():
                self._give_back()
            raise
        finally:
            if call in self._line:
                self._line.remove(ticket)
        return self._clock() if ticket.turn.result() else None

    def leave(self, begun: float) -> None:
        """End a call whose turn began then: its place is free."""
        self._places.release(self._clock() - begun)

    async def depart(self) -> None:
        """Wait until a request may leave, which it must do at once."""
        await self._gate.depart()

    def throttled(self) -> None:
        """Slow down, once for all throttles within a second."""
        self._bucket.cut()

    @property
    def rate(self) -> float:
        """How many turns a second it gives, at the moment."""
        return self._bucket.rate

    @property
    def waiting(self) -> int:
        """How many calls wait for their turn."""
        return len(self._line)

    def is_waiting(self, call: Call) -> bool:
        """Return whether a call waits for its turn."""
        return call in self._line

    def expected_wait(self, call: Call) -> float:
        """Estimate in how many seconds it would be this call's turn."""
        self._bucket.fill()
        turns = 1 + (self._line.turns_before(call) if self._line else 0)
        tokens = turns + self._gate.waiting - self._bucket.turns.tokens
        return max(
            0.0,
            tokens / self._bucket.rate,
            self._places.wait_seconds(turns, self),
        )

    def refusal(self, wait_seconds: float) -> NotAskedError:
        """Create the error of a call whose turn doesn't come in time, and would then.

        It names what is short at the moment: tokens or places. If nothing is, the
        gateway itself is too late. Calls that wait while a place is free wait for
        tokens, even if one has just come and isn't given yet.
        """
        is_token_short = bool(
            self._bucket.turns.tokens - self._gate.waiting < WHOLE
            or (self._line and self._places.free)
        )
        is_place_shorter = (
            not self._places.free and self._places.seconds_each >= 1 / self._bucket.rate
        )
        if is_token_short and not is_place_shorter:
            return throttled(wait_seconds)
        return self._places.refusal(wait_seconds)

    def _may_give(self) -> bool:
        self._bucket.fill()
        return bool(
            self._bucket.turns.has_token
            and self._places.free
            and not self._gate.waiting
        )

    def _spend(self, call: Call) -> None:
        self._bucket.turns.tokens -= 1
        self._places.take()
        self._line.charge(call)

    def _give_back(self) -> None:
        """Take back a turn that was given to a call that had just left."""
        self._bucket.turns.tokens += 1
        self._places.restore()
        self._give()

    def _give(self) -> None:
        """Give every turn that can be given now."""
        while self._give_turn():
            pass
        self._plan()

    def give_one(self) -> None:
        """Give one turn, as a place is free; other accounts may have the next place."""
        self._give_turn()
        self._plan()

    def _give_turn(self) -> bool:
        """Give the next turn, if there is one; pass over calls that aren't ready."""
        while self._line and self._may_give():
            ticket = self._line.next()
            self._line.remove(ticket)
            is_ready = ticket.is_ready()
            if is_ready:
                self._spend(ticket.call)
            ticket.turn.set_result(is_ready)
            if is_ready:
                return True
        return False

    def _plan(self) -> None:
        """Arrange for the next turn, for when a token and a place are there."""
        if not self._line or self._gate.waiting:  # which gives turns as it opens
            return
        if self._bucket.turns.has_token:
            self._places.wait_for(self)
        elif self._timer is None:
            loop = asyncio.get_running_loop()
            wait_seconds = self._bucket.turns.wait_seconds
            self._timer = loop.call_later(wait_seconds, self._come_back)

    def _come_back(self) -> None:
        self._timer = None
        self._give()


def throttled(wait_seconds: float) -> NotAskedError:
    """Create the error of a call that gets no token in time, and would then."""
    return NotAskedError(Reason.UPSTREAM_THROTTLED, retry_delay_seconds=wait_seconds)
