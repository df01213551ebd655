"""Times out calls that never send a request message, and bounds their number."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

from grpc.aio import EOF

from healthomics_gateway.errors.exceptions import GatewayError, overloaded
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.interceptors.eviction import Evictions

# Calls that wait for their message, each about 23 KB. It is more than the calls that
# arrive together, as their messages are read after the last of them has begun.
MAX_WAITING = 2048
MESSAGE_SECONDS = 10.0  # for a message to arrive after its call's headers


class FirstMessages:
    """Limits the number of calls that wait for their request message, and the wait.

    Any client can begin a call and send no message, and each such call takes memory. A
    usual client sends its message together with the headers, so if too many calls wait,
    the oldest is refused.
    """

    def __init__(
        self,
        *,
        max_waiting: int = MAX_WAITING,
        message_seconds: float = MESSAGE_SECONDS,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Allow `max_waiting` calls to wait, each for `message_seconds`."""
        self._max_waiting = max_waiting
        self._message_seconds = message_seconds
        self._jitter = jitter
        self._waiting: dict[asyncio.Task[Any], float] = {}  # since when; oldest first
        self._evictions = Evictions()
        self._timer: asyncio.TimerHandle | None = None

    async def message(
        self, task: asyncio.Task[Any], read: Callable[[], Awaitable[Any]]
    ) -> bytes:
        """Return the first message of a call that runs in `task`.

        `read` returns it, or EOF. Raises MALFORMED_REQUEST if no message arrives, and
        GATEWAY_OVERLOADED if too many newer calls wait for theirs.
        """
        if len(self._waiting) >= self._max_waiting:
            self._refuse(next(iter(self._waiting)), overloaded(self._jitter()))
        self._waiting[task] = task.get_loop().time()
        # One timer for all calls is cheaper than a timeout for each.
        if self._timer is None:
            self._timer = task.get_loop().call_later(
                self._message_seconds, self._refuse_late
            )
        try:
            with self._evictions.scope(task):
                body = await read()
        finally:
            self._waiting.pop(task, None)
        if body is EOF:
            raise GatewayError(Reason.MALFORMED_REQUEST)
        message: bytes = body
        return message

    def _refuse(self, task: asyncio.Task[Any], error: GatewayError) -> None:
        del self._waiting[task]
        self._evictions.evict(task, error)

    def _refuse_late(self) -> None:
        """Refuse the calls whose message is late; set a timer for the next call."""
        self._timer = None
        loop = asyncio.get_running_loop()
        latest = loop.time() - self._message_seconds
        for task, since in tuple(self._waiting.items()):
            if since > latest:
                self._timer = loop.call_later(since - latest, self._refuse_late)
                break
            self._refuse(task, GatewayError(Reason.MALFORMED_REQUEST))
