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
        self._waiting: dict[asyncio.Timeout, None] = {}  # the oldest first

    async def message(self, read: Callable[[], Awaitable[Any]]) -> bytes:
        """Give a call's first message, which `read` gives, or EOF.

        Raises MALFORMED_REQUEST where none comes, GATEWAY_OVERLOADED where too many
        other calls wait for theirs.
        """
        patience = asyncio.timeout(self._message_seconds)
        try:
            async with patience:
                self._make_room()
                self._waiting[patience] = None
                body = await read()
        except TimeoutError:
            if patience not in self._waiting:
                raise overloaded(self._jitter()) from None
            raise GatewayError(Reason.MALFORMED_REQUEST) from None
        finally:
            self._waiting.pop(patience, None)
        if body is EOF:
            raise GatewayError(Reason.MALFORMED_REQUEST)
        message: bytes = body
        return message

    def _make_room(self) -> None:
        if len(self._waiting) >= self._max_waiting:
            oldest = next(iter(self._waiting))
            del self._waiting[oldest]
            oldest.reschedule(asyncio.get_running_loop().time())
