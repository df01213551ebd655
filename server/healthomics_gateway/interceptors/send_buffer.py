"""Bounds the bytes of answers and streams that clients haven't read yet."""

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
MAX_SHARE_BYTES = 1024 * 1024  # of one connection, once there are so many
CROWDED = 2  # times as many bytes in all: then callers have shares, not connections
STREAM_BYTES = 24 * 1024  # what a call takes beside its answer
SENDING_SECONDS = 2.0  # that a crowd's answers may take to be sent


class SendBuffer:
    """Answers, kept until their clients have read them or are gone.

    A client that stops reading is answered all the same, and what it doesn't read is
    kept until its connection is closed. Where too much is kept, those who hold more
    than their share of it get GATEWAY_OVERLOADED; who reads holds next to nothing.

    What a call takes beside its answer counts once that lies there for a while: a
    crowd that is answered at one moment needs that long to be sent its answers.
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
        """Begin with nothing kept; `jitter` draws from [0, 1)."""
        self._max_bytes = max_bytes
        self._max_share_bytes = max_share_bytes
        self._sending_seconds = sending_seconds
        self._clock = clock
        self._jitter = jitter
        self._kept: dict[str, int] = {}  # bytes, by connection
        self._kept_of: dict[str, int] = {}  # bytes, by caller
        self._kept_bytes = 0
        # Calls that are being sent their answers, since when: the oldest first.
        self._sending: dict[asyncio.Task[Any], tuple[str, str, float]] = {}

    @property
    def kept_bytes(self) -> int:
        """How much is kept, by now."""
        latest = self._clock() - self._sending_seconds
        while self._sending:
            task, (peer, name, since) = next(iter(self._sending.items()))
            if since > latest:
                break
            del self._sending[task]
            self._add(peer, STREAM_BYTES, name=name)
        return self._kept_bytes

    def intercept(self, proceed: Handler) -> Handler:
        """Keep account of the answers; refuse those that would be too many."""

        async def handle(incoming: Any, context: CallContext) -> bytes:
            self._check(context, STREAM_BYTES)
            answer = await proceed(incoming, context)
            size = len(answer or b"")
            self._check(context, size + STREAM_BYTES)
            self._keep(context, size)
            return answer

        return handle

    @contextmanager
    def writing(self, context: CallContext, size: int) -> Iterator[None]:
        """Keep account of a stream's message while it is written.

        gRPC has sent a message once its write returns, but for what the connection's
        own buffers hold. What is given up unsent stays with the stream until it ends,
        and so does its status: they count until then. Raises GATEWAY_OVERLOADED if the
        message would be too much.
        """
        peer, name = context.peer, context.caller.name
        self._check(context, size)
        self._add(peer, size, name=name)
        try:
            yield
        except BaseException:
            kept = size + STREAM_BYTES
            self._add(peer, STREAM_BYTES, name=name)
            context.task.add_done_callback(lambda _: self._add(peer, -kept, name=name))
            raise
        self._add(peer, -size, name=name)

    def _check(self, context: CallContext, size: int) -> None:
        most = self._kept_bytes + len(self._sending) * STREAM_BYTES + size
        if most <= self._max_bytes:
            return  # whatever of it counts by now
        kept = self.kept_bytes + size
        if kept > self._max_bytes and (
            self._kept.get(context.peer, 0) + size > self._max_share_bytes
            or (
                kept > self._max_bytes * CROWDED
                and self._is_beyond_share(context.caller.name, size)
            )
        ):
            raise overloaded(self._jitter())

    def _is_beyond_share(self, name: str, size: int) -> bool:
        """Return whether the caller would hold more than its share by `size` more.

        A client can open many connections, each with a share of its own.
        """
        callers = len(self._kept_of) + (name not in self._kept_of)
        share = self._max_bytes * CROWDED / callers
        return self._kept_of.get(name, 0) + size > share

    def _keep(self, context: CallContext, size: int) -> None:
        """Keep an answer until gRPC has done with its call."""
        peer, task, name = context.peer, context.task, context.caller.name
        self._add(peer, size, name=name)
        self._sending[task] = peer, name, self._clock()

        def read(_: Any) -> None:
            is_soon = self._sending.pop(task, None)
            self._add(peer, -size if is_soon else -size - STREAM_BYTES, name=name)

        task.add_done_callback(read)

    def _add(self, peer: str, size: int, *, name: str) -> None:
        """Count bytes of a connection, and of the caller of this name."""
        self._kept_bytes += size
        _count(self._kept, peer, size)
        _count(self._kept_of, name, size)


def _count(kept: dict[str, int], key: str, size: int) -> None:
    now = kept.get(key, 0) + size
    if now:
        kept[key] = now
    else:
        kept.pop(key, None)
