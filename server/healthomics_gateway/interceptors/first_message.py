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

# Calls whose message hasn't come, each about 23 KB: more than come at one moment, as
# none of their messages has been read when the last of them begins.
MAX_WAITING = 2048
MESSAGE_SECONDS = 10.0  # for a message to come after its call's headers


class FirstMessages:
    """Limits the calls whose request message hasn't come yet, in number and in time.

    Anybody can begin a call and send no more, and each such call holds memory. A
    client's own message comes with its headers, so if too many calls wait for theirs
    the oldest is refused.
    """

    def __init__(
        self,
        *,
        max_waiting: int = MAX_WAITING,
        message_seconds: float = MESSAGE_SECONDS,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Let `max_waiting` calls wait, each for `message_seconds`."""
        self._max_waiting = max_waiting
        self._message_seconds = message_seconds
        self._jitter = jitter
        self._waiting: dict[asyncio.Task[Any], float] = {}  # since when, oldest first
        self._evictions = Evictions()
        self._timer: asyncio.TimerHandle | None = None

    async def message(
        self, task: asyncio.Task[Any], read: Callable[[], Awaitable[Any]]
    ) -> bytes:
        """Return the first message of a call that runs in `task`.

        `read` returns it, or EOF. Raises MALFORMED_REQUEST where none comes, and
        GATEWAY_OVERLOADED where too many other calls wait for theirs.
        """
        if len(self._waiting) >= self._max_waiting:
            self._give_up(next(iter(self._waiting)), overloaded(self._jitter()))
        self._waiting[task] = task.get_loop().time()
        # One timer for all, as a timeout for each would cost every call.
        if self._timer is None:
            self._timer = task.get_loop().call_later(self._message_seconds, self._look)
        try:
            body = await read()
        except asyncio.CancelledError:
            self._evictions.check(task)
            raise
        finally:
            self._waiting.pop(task, None)
            self._evictions.forget(task)
        if body is EOF:
            raise GatewayError(Reason.MALFORMED_REQUEST)
        message: bytes = body
        return message

    def _give_up(self, task: asyncio.Task[Any], error: GatewayError) -> None:
        del self._waiting[task]
        self._evictions.evict(task, error)

    def _look(self) -> None:
        """Refuse the calls whose message is late; come back for the next."""
        self._timer = None
        loop = asyncio.get_running_loop()
        latest = loop.time() - self._message_seconds
        for task, since in tuple(self._waiting.items()):
            if since > latest:
                self._timer = loop.call_later(since - latest, self._look)
                break
            self._give_up(task, GatewayError(Reason.MALFORMED_REQUEST))
