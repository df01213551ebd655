"""The answers that clients haven't read yet: so many bytes in all."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from healthomics_gateway.errors import overloaded
from healthomics_gateway.interceptors.exchange import Exchange, Handler

MAX_UNREAD_BYTES = 16 * 1024 * 1024  # gRPC keeps each of them about twice
MAX_SHARE_BYTES = 1024 * 1024  # of one connection, once there are so many
STREAM_BYTES = 24 * 1024  # what a call takes beside its answer


class Unread:
    """Answers, kept until their clients have read them or are gone.

    A client that stops reading is answered all the same, and what it doesn't read is
    kept until its connection is closed. Where too much is kept, those who hold more
    than their share of it get GATEWAY_OVERLOADED; who reads holds next to nothing.
    """

    def __init__(
        self,
        *,
        max_bytes: int = MAX_UNREAD_BYTES,
        max_share_bytes: int = MAX_SHARE_BYTES,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Begin with nothing kept; `jitter` draws from [0, 1)."""
        self._max_bytes = max_bytes
        self._max_share_bytes = max_share_bytes
        self._jitter = jitter
        self._kept: dict[str, int] = {}  # bytes, by connection
        self.kept_bytes = 0

    def stage(self, proceed: Handler) -> Handler:
        """Keep account of the answers; refuse those that would be too many."""

        async def handle(incoming: Any, exchange: Exchange) -> bytes:
            self._check(exchange.peer, STREAM_BYTES)
            answer = await proceed(incoming, exchange)
            size = len(answer or b"") + STREAM_BYTES
            self._check(exchange.peer, size)
            self._keep(exchange, size)
            return answer

        return handle

    def _check(self, peer: str, size: int) -> None:
        if (
            self.kept_bytes + size > self._max_bytes
            and self._kept.get(peer, 0) + size > self._max_share_bytes
        ):
            raise overloaded(self._jitter())

    def _keep(self, exchange: Exchange, size: int) -> None:
        """Keep an answer until gRPC has done with its call."""
        kept, peer = self._kept, exchange.peer
        kept[peer] = kept.get(peer, 0) + size
        self.kept_bytes += size

        def read(_: Any) -> None:
            self.kept_bytes -= size
            kept[peer] -= size
            if not kept[peer]:
                del kept[peer]

        exchange.task.add_done_callback(read)
