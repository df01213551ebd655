"""Delays rejections, so that a flood of rejected calls delays no other call."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, TypeVar

from healthomics_gateway.context import CallContext, Handler
from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.runs.source import Caller
from healthomics_gateway.token_bucket import TokenBucket

PER_SECOND = 200.0  # rejections; each takes as much CPU as an answer from the cache
BURST = 20.0  # rejections at once, after a pause
SLOW_ABOVE = 200  # waiting rejections; if there are more, the rate is SLOW_PER_SECOND
SLOW_PER_SECOND = 20.0
MAX_REJECTIONS = 2048  # that wait, each about 23 KB; beyond, the next is sent at once

_T = TypeVar("_T")

PACED = frozenset(
    {
        Reason.AUTH_BACKEND_UNAVAILABLE,
        Reason.CALLER_NOT_AUTHORIZED,
        Reason.CALLER_RATE_LIMITED,
        Reason.METHOD_UNKNOWN,
        Reason.TOKEN_EXPIRED,
        Reason.TOKEN_INVALID,
        Reason.TOKEN_MISSING,
    }
)


class Tarpit:
    """Sends rejections of unknown and limited callers at a bounded rate, in turn.

    gRPC limits the open calls of a connection, and a call beyond the limit costs the
    gateway almost nothing until another has ended. So a client that calls again as soon
    as it is rejected has to wait for each rejection. Callers take turns, as do the
    connections of each caller: a caller is an identity, or a host if it has proven no
    identity, and one client can open many connections.
    """

    def __init__(
        self,
        *,
        per_second: float = PER_SECOND,
        burst: float = BURST,
        slow_above: int = SLOW_ABOVE,
        slow_per_second: float = SLOW_PER_SECOND,
        max_waiting: int = MAX_REJECTIONS,
    ) -> None:
        """Start with no rejection waiting. Needs a running event loop."""
        self._per_second = per_second
        self._slow_above = slow_above
        self._slow_per_second = slow_per_second
        self._max_waiting = max_waiting
        self._loop = asyncio.get_running_loop()
        self._bucket = TokenBucket(
            rate=per_second, capacity=burst, clock=self._loop.time
        )
        # By caller and connection; those with the oldest last rejection come first.
        self._waiting: dict[str, dict[str, deque[asyncio.Future[None]]]] = {}
        self._size = 0  # waiting rejections, those of cancelled calls included
        self._timer: asyncio.TimerHandle | None = None

    def intercept(self, proceed: Handler) -> Handler:
        """Delay the rejection of a call until its turn.

        A long call that new rules end isn't delayed, as it was accepted before.
        """

        async def handle(incoming: Any, call: CallContext) -> bytes:
            try:
                return await proceed(incoming, call)
            except GatewayError as error:
                if error.reason not in PACED or call.is_revoked:
                    raise
                # Without its traceback, which would hold this frame while it waits.
                rejection = error.with_traceback(None)
            await self.turn(call.caller)
            raise rejection

        return handle

    async def turn(self, caller: Caller) -> None:
        """Wait for the turn of a caller."""
        self._bucket.fill()
        if not self._size and self._bucket.take():
            return
        turn = self._loop.create_future()
        connections = self._waiting.setdefault(caller.name, {})
        connections.setdefault(caller.connection, deque()).append(turn)
        self._size += 1
        if self._size > self._max_waiting:
            self._release_one()
        self._schedule()
        await turn

    def _schedule(self) -> None:
        """Set the rate for the number that waits, and a timer for the next token."""
        is_slow = self._size > self._slow_above
        self._bucket.rate = self._slow_per_second if is_slow else self._per_second
        if self._size and self._timer is None:
            wait_seconds = self._bucket.wait_seconds
            self._timer = self._loop.call_later(wait_seconds, self._release)

    def _release(self) -> None:
        """Send a rejection for each token."""
        self._timer = None
        self._bucket.fill()
        while self._size and self._bucket.has_token:
            if self._release_one():
                self._bucket.take()
        self._schedule()

    def _release_one(self) -> bool:
        """Release the next rejection; return False if its call was cancelled."""
        name, connections = _pop_first(self._waiting)
        connection, turns = _pop_first(connections)
        turn = turns.popleft()
        self._size -= 1
        if turns:
            connections[connection] = turns  # at the end
        if connections:
            self._waiting[name] = connections
        if turn.done():
            return False
        turn.set_result(None)
        return True


def _pop_first(entries: dict[str, _T]) -> tuple[str, _T]:
    key = next(iter(entries))
    return key, entries.pop(key)
