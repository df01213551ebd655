"""How fast strangers are told no, so that a flood of them holds up nobody else."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from healthomics_gateway.errors import GatewayError, Reason
from healthomics_gateway.interceptors.exchange import Exchange, Handler

PER_SECOND = 100.0  # refusals; each takes as much CPU as an answer out of memory
AT_ONCE = 20.0  # after a pause
MAX_WAITING = 2048  # refusals, each about 23 KB; beyond, the oldest goes at once

STRANGERS = frozenset(
    {
        Reason.METHOD_UNKNOWN,
        Reason.TOKEN_EXPIRED,
        Reason.TOKEN_INVALID,
        Reason.TOKEN_MISSING,
    }
)


class Refusals:
    """Sends strangers away at a bounded rate.

    A stranger may have only so many calls open on a connection, and the next one costs
    the gateway nothing until one of them has ended. So whoever asks as fast as it is
    refused waits for its refusals.
    """

    def __init__(
        self,
        *,
        per_second: float = PER_SECOND,
        at_once: float = AT_ONCE,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        """Begin with nobody waiting; make it inside an event loop."""
        self._per_second = per_second
        self._at_once = at_once
        self._max_waiting = max_waiting
        self._loop = asyncio.get_running_loop()
        self._tokens = at_once
        self._filled_at = self._loop.time()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def stage(self, proceed: Handler) -> Handler:
        """Hold back a stranger's refusal until it is its turn."""

        async def handle(incoming: Any, exchange: Exchange) -> bytes:
            try:
                return await proceed(incoming, exchange)
            except GatewayError as error:
                reason = error.reason
                if reason not in STRANGERS:
                    raise
            await self._turn()
            raise GatewayError(reason)

        return handle

    async def _turn(self) -> None:
        self._fill()
        if self._tokens >= 1 and not self._waiting:
            self._tokens -= 1
            return
        turn = self._loop.create_future()
        self._waiting.append(turn)
        if len(self._waiting) > self._max_waiting:
            _let_go(self._waiting.popleft())
        self._come_back()
        await turn

    def _fill(self) -> None:
        now = self._loop.time()
        gained = (now - self._filled_at) * self._per_second
        self._tokens = min(self._tokens + gained, self._at_once)
        self._filled_at = now

    def _come_back(self) -> None:
        if self._waiting and self._timer is None:
            seconds = max(1 - self._tokens, 0) / self._per_second
            self._timer = self._loop.call_later(seconds, self._look)

    def _look(self) -> None:
        """Let go whose turn it is."""
        self._timer = None
        self._fill()
        while self._waiting and self._tokens >= 1:
            self._tokens -= _let_go(self._waiting.popleft())
        self._come_back()


def _let_go(turn: asyncio.Future[None]) -> bool:
    """Let a call have its turn, if it is still there."""
    if turn.done():
        return False
    turn.set_result(None)
    return True
