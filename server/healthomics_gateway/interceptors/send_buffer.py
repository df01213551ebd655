"""Limits the bytes of answers and streams that clients haven't read yet."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from healthomics_gateway.context import CallContext, Handler
from healthomics_gateway.errors.exceptions import overloaded

MAX_UNREAD_BYTES = 16 * 1024 * 1024  # gRPC keeps each of them about twice
MAX_SHARE_BYTES = 1024 * 1024  # of one connection, once MAX_UNREAD_BYTES are unread
CALLER_FACTOR = 2  # times MAX_UNREAD_BYTES: beyond it each caller has a share too
STREAM_BYTES = 24 * 1024  # of memory that a call takes besides its answer
SENDING_SECONDS = 2.0  # to send the answers of many calls that end together


class SendBuffer:
    """Counts the bytes of answers until their clients have read them or are gone.

    gRPC keeps the answers that a client doesn't read until its connection is closed. If
    too many bytes are unread, callers with more than their share of them get
    GATEWAY_OVERLOADED. Clients that read their answers have almost no unread bytes.

    `STREAM_BYTES` of a call count only when its answer has been unread for
    `sending_seconds`: when many calls end together, it takes that long to send their
    answers.
    """

    def __init__(
        self,
        *,
        max_bytes: int = MAX_UNREAD_BYTES,
        max_share_bytes: int = MAX_SHARE_BYTES,
        sending_seconds: float = SENDING_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Start with no bytes; `jitter` returns a random number in [0, 1)."""
        self._max_bytes = max_bytes
        self._max_share_bytes = max_share_bytes
        self._sending_seconds = sending_seconds
        self._clock = clock
        self._jitter = jitter
        self._kept: dict[str, int] = {}  # bytes, by connection
        self._kept_of: dict[str, int] = {}  # bytes, by caller
        self._kept_bytes = 0
        # Calls whose answers are being sent, and since when; the oldest comes first.
        self._sending: dict[asyncio.Task[Any], tuple[str, str, float]] = {}

    @property
    def kept_bytes(self) -> int:
        """The number of unread bytes now."""
        latest = self._clock() - self._sending_seconds
        while self._sending:
            task, (peer, name, since) = next(iter(self._sending.items()))
            if since > latest:
                break
            del self._sending[task]
            self._add(peer, STREAM_BYTES, name=name)
        return self._kept_bytes

    def intercept(self, proceed: Handler) -> Handler:
        """Count the answers. Raises GATEWAY_OVERLOADED if one would be too much."""

        async def handle(incoming: Any, call: CallContext) -> bytes:
            self._check(call, STREAM_BYTES)
            answer = await proceed(incoming, call)
            size = len(answer or b"")
            self._check(call, size + STREAM_BYTES)
            self._keep(call, size)
            return answer

        return handle

    @contextmanager
    def writing(self, call: CallContext, size: int) -> Iterator[None]:
        """Count a stream's message while it is written.

        When the write returns, gRPC has sent the message, except what is in the buffers
        of the connection. If the write is cancelled, gRPC keeps the message and the
        status until the stream ends, so they count until then. Raises
        GATEWAY_OVERLOADED if the message would be too much.
        """
        peer, name = call.peer, call.caller.name
        self._check(call, size)
        self._add(peer, size, name=name)
        try:
            yield
        except BaseException:
            kept = size + STREAM_BYTES
            self._add(peer, STREAM_BYTES, name=name)
            call.task.add_done_callback(lambda _: self._add(peer, -kept, name=name))
            raise
        self._add(peer, -size, name=name)

    def _check(self, call: CallContext, size: int) -> None:
        most = self._kept_bytes + len(self._sending) * STREAM_BYTES + size
        if most <= self._max_bytes:
            return  # even if all of it counted
        kept = self.kept_bytes + size
        if kept > self._max_bytes and (
            self._kept.get(call.peer, 0) + size > self._max_share_bytes
            or (
                kept > self._max_bytes * CALLER_FACTOR
                and self._is_beyond_share(call.caller.name, size)
            )
        ):
            raise overloaded(self._jitter())

    def _is_beyond_share(self, name: str, size: int) -> bool:
        """Return whether `size` more bytes would exceed the caller's share.

        A client can open many connections, and each connection has a share.
        """
        callers = len(self._kept_of) + (name not in self._kept_of)
        share = self._max_bytes * CALLER_FACTOR / callers
        return self._kept_of.get(name, 0) + size > share

    def _keep(self, call: CallContext, size: int) -> None:
        """Count an answer until gRPC has finished its call."""
        peer, task, name = call.peer, call.task, call.caller.name
        self._add(peer, size, name=name)
        self._sending[task] = peer, name, self._clock()

        def read(_: Any) -> None:
            is_soon = self._sending.pop(task, None)
            self._add(peer, -size if is_soon else -size - STREAM_BYTES, name=name)

        task.add_done_callback(read)

    def _add(self, peer: str, size: int, *, name: str) -> None:
        """Add bytes of a connection, and of its caller."""
        self._kept_bytes += size
        _count(self._kept, peer, size)
        _count(self._kept_of, name, size)


def _count(kept: dict[str, int], key: str, size: int) -> None:
    now = kept.get(key, 0) + size
    if now:
        kept[key] = now
    else:
        kept.pop(key, None)
