"""The calls inside: no more than the gateway can serve, and none that only waits."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

from grpc.aio import EOF

from healthomics_gateway.errors import GatewayError, Reason, overloaded
from healthomics_gateway.interceptors.exchange import Exchange, Handler

MAX_WAITING = 1024  # calls whose message hasn't come, each about 23 KB
MESSAGE_SECONDS = 10.0  # for a message to come after its call's headers


class Admission:
    """Lets so many calls in at once, and turns the others away before any work."""

    def __init__(
        self, *, max_in_flight: int, jitter: Callable[[], float] = random.random
    ) -> None:
        """Begin with nobody inside; `jitter` draws from [0, 1)."""
        self._max_in_flight = max_in_flight
        self._jitter = jitter
        self.inside = 0  # calls

    def stage(self, proceed: Handler) -> Handler:
        """Count the calls; answer GATEWAY_OVERLOADED to those that are too many."""

        async def handle(incoming: Any, exchange: Exchange) -> bytes:
            if self.inside >= self._max_in_flight:
                raise overloaded(self._jitter())
            self.inside += 1
            try:
                return await proceed(incoming, exchange)
            finally:
                self.inside -= 1

        return handle


class Arrivals:
    """The calls whose message hasn't come yet: few, and none for long.

    Anybody can begin a call and send no more, and each holds memory. A client's own
    message comes with its headers, so where too many wait the oldest is turned away.
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
        self._given_up: dict[asyncio.Task[Any], GatewayError] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def message(
        self, task: asyncio.Task[Any], read: Callable[[], Awaitable[Any]]
    ) -> bytes:
        """Give the first message of a call that runs in `task`; `read` gives it or EOF.

        Raises MALFORMED_REQUEST where none comes, GATEWAY_OVERLOADED where too many
        other calls wait for theirs.
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
            if task not in self._given_up:
                raise
            task.uncancel()
            raise self._given_up[task] from None
        finally:
            self._waiting.pop(task, None)
            self._given_up.pop(task, None)
        if body is EOF:
            raise GatewayError(Reason.MALFORMED_REQUEST)
        message: bytes = body
        return message

    def _give_up(self, task: asyncio.Task[Any], error: GatewayError) -> None:
        del self._waiting[task]
        self._given_up[task] = error
        task.cancel()

    def _look(self) -> None:
        """Give up whose message is late; come back for the next."""
        self._timer = None
        loop = asyncio.get_running_loop()
        latest = loop.time() - self._message_seconds
        for task, since in tuple(self._waiting.items()):
            if since > latest:
                self._timer = loop.call_later(since - latest, self._look)
                break
            self._give_up(task, GatewayError(Reason.MALFORMED_REQUEST))
