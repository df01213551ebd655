"""The scheduler of one AWS account's calls: it grants turns within the rate limit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING

from healthomics_gateway.errors.exceptions import NotAskedError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.runs.fairness import TurnQueue
from healthomics_gateway.runs.quota import Quota
from healthomics_gateway.runs.source import REFUSAL_MARGIN_SECONDS
from healthomics_gateway.telemetry.metrics.parts import QueueMetrics
from healthomics_gateway.telemetry.recent import QuotaUse
from healthomics_gateway.token_bucket import WHOLE

if TYPE_CHECKING:
    from healthomics_gateway.runs.bulkhead import Bulkhead
    from healthomics_gateway.runs.source import Call


class Scheduler:
    """The calls to one AWS account and Region, and the rate at which they are sent.

    A call has its turn when a token and a place are free for it, and no request of an
    earlier turn still waits to be sent. `TurnQueue` orders the calls that wait.
    """

    def __init__(
        self,
        quota: Quota,
        *,
        poll_share: float,
        places: Bulkhead,
        use: QuotaUse | None = None,
        metrics: QueueMetrics | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Grant turns for the tokens of `quota`, which no other scheduler uses.

        While calls and polls both wait, polls get `poll_share` of the turns. `use`
        counts the requests that depart. Deadlines are times of `clock`.
        """
        self.users = 0  # calls that wait, or are under way
        self.use = use  # None if no requests depart
        self._quota = quota
        quota.on_token(self._grant_all)
        self._places = places
        self._metrics = metrics or QueueMetrics()
        self._clock = clock
        self._queue = TurnQueue(poll_share=poll_share)

    async def turn(
        self, call: Call, *, is_ready: Callable[[], bool] = lambda: True
    ) -> float | None:
        """Wait for the turn of a call that is ready to be sent.

        Return the time at which the turn began, for `leave` when the call has ended.
        Return `None` if the call wasn't ready any more when its turn came: then it took
        no token and no place. Raises UPSTREAM_THROTTLED if no token comes in time, and
        GATEWAY_OVERLOADED if no place does.
        """
        asked_at = self._clock()
        if not self._queue and self._can_grant():
            self._spend(call)
            return self._note_turn(call, asked_at)
        wait = self.expected_wait(call)
        if self._clock() + wait > call.deadline:
            raise self.refusal(wait)
        ticket = self._queue.add(call, is_ready)
        self._grant_all()
        try:
            while not ticket.turn.done():  # callers that join may have more time
                left = call.deadline - REFUSAL_MARGIN_SECONDS - self._clock()
                if left <= 0:
                    raise self.refusal(self.expected_wait(call))
                await asyncio.wait(
                    (ticket.turn,), timeout=None if left == inf else left
                )
        except asyncio.CancelledError:
            if ticket.turn.done() and ticket.turn.result():
                self._return_turn()
            raise
        finally:
            if call in self._queue:
                self._queue.remove(ticket)
        return self._note_turn(call, asked_at) if ticket.turn.result() else None

    def _note_turn(self, call: Call, asked_at: float) -> float:
        """Measure how long a call waited for its turn; return the time."""
        now = self._clock()
        metrics = self._metrics
        seconds = metrics.poll_seconds if call.is_poll else metrics.call_seconds
        seconds.observe(now - asked_at)
        return now

    def leave(self, begun: float) -> None:
        """Free the place of a call whose turn began at `begun`."""
        self._places.release(self._clock() - begun)

    async def depart(self) -> None:
        """Wait until a request may be sent, which must be done at once."""
        await self._quota.depart()
        if self.use:
            self.use.sent(self._quota.rate)

    def throttled(self) -> None:
        """Lower the rate, once for all throttles within a second."""
        self._quota.cut()
        if self.use:
            self.use.throttled(self._quota.rate)

    @property
    def is_like_new(self) -> bool:
        """Return whether a new scheduler would grant the same turns."""
        return not (self.users or self._queue) and self._quota.is_full

    @property
    def tps(self) -> float:
        """The turns that are granted per second at most."""
        return self._quota.tps

    @property
    def rate(self) -> float:
        """The turns that are granted per second, at the moment."""
        return self._quota.rate

    @property
    def tokens(self) -> float:
        """The tokens that can be taken at the moment."""
        return max(self._quota.tokens, 0.0)

    @property
    def waiting(self) -> int:
        """The number of calls that wait for their turn."""
        return len(self._queue)

    @property
    def waiting_polls(self) -> int:
        """The number of those that are polls of watches."""
        return self._queue.polls

    def is_waiting(self, call: Call) -> bool:
        """Return whether a call waits for its turn."""
        return call in self._queue

    def expected_wait(self, call: Call) -> float:
        """Return the estimated seconds until a call would have its turn."""
        turns = 1 + (self._queue.turns_before(call) if self._queue else 0)
        return max(
            self._quota.wait_seconds(turns), self._places.wait_seconds(turns, self)
        )

    def refusal(self, wait_seconds: float) -> NotAskedError:
        """Create the error of a call whose turn would come only after `wait_seconds`.

        Its reason is what is short at the moment: UPSTREAM_THROTTLED for tokens, else
        GATEWAY_OVERLOADED for places. If neither is short, the gateway itself was too
        late, which is GATEWAY_OVERLOADED too. Calls that wait while a place is free
        wait for tokens, even if a token has just come and isn't granted yet.
        """
        is_token_short = bool(
            self._quota.tokens - self._quota.waiting < WHOLE
            or (self._queue and self._places.free)
        )
        is_place_shorter = (
            not self._places.free and self._places.seconds_each >= 1 / self._quota.rate
        )
        if is_token_short and not is_place_shorter:
            return throttled(wait_seconds)
        return self._places.refusal(wait_seconds)

    def _can_grant(self) -> bool:
        quota = self._quota
        return bool(quota.has_token and self._places.free and not quota.waiting)

    def _spend(self, call: Call) -> None:
        self._quota.take()
        self._places.take()
        self._queue.charge(call)

    def _return_turn(self) -> None:
        """Take back a turn that was granted to a call that has just been cancelled."""
        self._quota.give_back()
        self._places.restore()
        self._grant_all()

    def _grant_all(self) -> None:
        """Grant every turn that can be granted now."""
        while self._grant_next():
            pass
        self._plan()

    def grant_one(self) -> None:
        """Grant one turn, as a place is free; the next may go to another account."""
        self._grant_next()
        self._plan()

    def _grant_next(self) -> bool:
        """Grant the next turn if possible; skip calls that aren't ready."""
        while self._queue and self._can_grant():
            ticket = self._queue.next()
            self._queue.remove(ticket)
            is_ready = ticket.is_ready()
            if is_ready:
                self._spend(ticket.call)
            ticket.turn.set_result(is_ready)
            if is_ready:
                return True
        return False

    def _plan(self) -> None:
        """Arrange to grant the next turn when a token and a place are free."""
        if not self._queue or self._quota.waiting:  # when none waits, it grants turns
            return
        if self._quota.has_token or not self._places.free:
            self._places.wait_for(self)
        else:
            self._quota.want()

    async def close(self) -> None:
        """End what the quota runs in the background."""
        await self._quota.close()


def throttled(wait_seconds: float) -> NotAskedError:
    """Create the error of a call that would get a token only after `wait_seconds`."""
    return NotAskedError(Reason.UPSTREAM_THROTTLED, retry_delay_seconds=wait_seconds)
