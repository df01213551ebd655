"""Slows down rejections of callers, so that a flood of rejected calls delays nobody."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, TypeVar

from healthomics_gateway.context import CallContext, Handler
from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.runs.source import Caller

PER_SECOND = 200.0  # refusals; each takes as much CPU as an answer out of memory
CROWD = 200  # that wait; of a crowd so many are told:
CROWD_PER_SECOND = 20.0
AT_ONCE = 20.0  # after a pause
MAX_REJECTIONS = 2048  # that wait, each about 23 KB; beyond, one goes at once

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
    """Rejects calls of unknown and limited callers at a bounded rate, by turns.

    A connection may have only so many calls open, and one more costs the gateway next
    to nothing until one of them has ended. So a client that calls as fast as it is
    rejected waits for its rejections. The callers take turns, each an identity or else
    a host, as one client can open many connections; so do the connections of each.
    """

    def __init__(
        self,
        *,
        per_second: float = PER_SECOND,
        crowd: int = CROWD,
        crowd_per_second: float = CROWD_PER_SECOND,
        at_once: float = AT_ONCE,
        max_waiting: int = MAX_REJECTIONS,
    ) -> None:
        """Begin with nobody waiting; make it inside an event loop."""
        self._per_second = per_second
        self._crowd = crowd
        self._crowd_per_second = crowd_per_second
        self._at_once = at_once
        self._max_waiting = max_waiting
        self._loop = asyncio.get_running_loop()
        self._tokens = at_once
        self._filled_at = self._loop.time()
        # By caller and connection, those that were rejected longest ago first.
        self._waiting: dict[str, dict[str, deque[asyncio.Future[None]]]] = {}
        self._size = 0  # how many wait, those who have hung up too
        self._timer: asyncio.TimerHandle | None = None

    def intercept(self, proceed: Handler) -> Handler:
        """Hold back the rejection of a call until its turn."""

        async def handle(incoming: Any, context: CallContext) -> bytes:
            try:
                return await proceed(incoming, context)
            except GatewayError as error:
                if error.reason not in PACED:
                    raise
                # Without its traceback, which would hold this frame while it waits.
                rejection = error.with_traceback(None)
            await self.turn(context.caller)
            raise rejection

        return handle

    async def turn(self, who: Caller) -> None:
        """Wait for the turn of a caller."""
        self._fill()
        if self._tokens >= 1 and not self._size:
            self._tokens -= 1
            return
        turn = self._loop.create_future()
        connections = self._waiting.setdefault(who.name, {})
        connections.setdefault(who.connection, deque()).append(turn)
        self._size += 1
        if self._size > self._max_waiting:
            self._let_one_go()
        self._come_back()
        await turn

    @property
    def _rate(self) -> float:
        is_crowd = self._size > self._crowd
        return self._crowd_per_second if is_crowd else self._per_second

    def _fill(self) -> None:
        now = self._loop.time()
        gained = (now - self._filled_at) * self._rate
        self._tokens = min(self._tokens + gained, self._at_once)
        self._filled_at = now

    def _come_back(self) -> None:
        if self._size and self._timer is None:
            seconds = max(1 - self._tokens, 0) / self._rate
            self._timer = self._loop.call_later(seconds, self._look)

    def _look(self) -> None:
        """Let go whose turn it is."""
        self._timer = None
        self._fill()
        while self._size and self._tokens >= 1:
            self._tokens -= self._let_one_go()
        self._come_back()

    def _let_one_go(self) -> bool:
        """Give one its turn, and tell whether it is still there to be told."""
        name, connections = _pop_first(self._waiting)
        connection, turns = _pop_first(connections)
        turn = turns.popleft()
        self._size -= 1
        if turns:
            connections[connection] = turns  # behind the others
        if connections:
            self._waiting[name] = connections
        if turn.done():
            return False
        turn.set_result(None)
        return True


def _pop_first(entries: dict[str, _T]) -> tuple[str, _T]:
    key = next(iter(entries))
    return key, entries.pop(key)
