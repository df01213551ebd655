"""Sends commands on one connection, many at a time, and returns their replies."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import (
    ClusterDownError,
    MovedError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from healthomics_gateway.shared.store import StoreError
from healthomics_gateway.shared.valkey.faults import store_error
from healthomics_gateway.threads import retrieve

MAX_PENDING = 2000  # commands without a reply
MAX_PENDING_BYTES = 16_777_216  # of them, before another is sent
# Without a reply, and commands whose callers have given up: the connection is lost.
STUCK_SECONDS, STUCK_COMMANDS = 2.0, 3
CLOSE_SECONDS = 1.0
# The server may not be the right one any more: the next connection finds out.
_MISPLACED = (MovedError, ClusterDownError, ReadOnlyError)

Connect = Callable[[], Awaitable[AbstractConnection]]


class Commands:
    """The connection for commands; it is opened when it is needed, and again if lost.

    A command whose caller doesn't wait any longer is answered later, and its reply is
    dropped, so it doesn't harm the connection. Opening one goes on without its caller.
    """

    def __init__(
        self, connect: Connect, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin without a connection; `clock` counts seconds."""
        self._connect = connect
        self._clock = clock
        # Why no connection could be opened the last time; empty if one could. A caller
        # may not have waited so long.
        self.unreached = ""
        self._opening: asyncio.Task[AbstractConnection] | None = None
        self._connection: AbstractConnection | None = None
        self._pending: deque[tuple[asyncio.Future[Any], int]] = deque()
        self._pending_bytes = 0
        self._replied_at = 0.0
        self._given_up = 0  # commands that nobody waits for, since the last reply
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run(self, *command: str | bytes | float) -> Any:
        """Return the reply to a command; raises StoreError, or redis-py's errors."""
        connection = self._connection
        if connection is not None and self._is_stuck():
            self._lose(StoreError("it hasn't answered for some time"))
            connection = None
        if connection is None:
            connection = await self._opened()
            if connection is not self._connection:
                raise StoreError("the connection to it was lost at once")
        if (
            len(self._pending) >= MAX_PENDING
            or self._pending_bytes >= MAX_PENDING_BYTES
        ):
            raise StoreError("too many commands wait for its answers")
        if not self._pending:
            self._replied_at = self._clock()
        reply = asyncio.get_running_loop().create_future()
        reply.add_done_callback(retrieve)
        size = sum(len(each) for each in command if isinstance(each, bytes))
        self._pending.append((reply, size))
        self._pending_bytes += size
        # A task, because redis-py closes a connection if sending is cancelled.
        self._start(self._send(connection, command))
        try:
            return await reply
        except asyncio.CancelledError:
            self._given_up += 1
            raise

    async def close(self) -> None:
        """Close the connection; commands under way fail."""
        if self._opening:
            self._opening.cancel()
        self._lose(StoreError("it is closed"))
        if self._tasks:  # they end with the connection
            await asyncio.wait(tuple(self._tasks), timeout=CLOSE_SECONDS)
        for task in self._tasks:
            task.cancel()

    def _is_stuck(self) -> bool:
        silence = self._clock() - self._replied_at
        return self._given_up >= STUCK_COMMANDS and silence > STUCK_SECONDS

    async def _opened(self) -> AbstractConnection:
        if self._opening is None or self._opening.done():
            self._opening = asyncio.create_task(self._open())
            self._opening.add_done_callback(retrieve)
        return await asyncio.shield(self._opening)

    async def _open(self) -> AbstractConnection:
        try:
            connection = await self._connect()
        except StoreError as error:
            self.unreached = str(error)
            raise
        self.unreached = ""
        self._connection = connection
        self._given_up = 0
        self._start(self._read(connection))
        return connection

    async def _send(
        self, connection: AbstractConnection, command: tuple[str | bytes | float, ...]
    ) -> None:
        if connection is not self._connection or not connection.is_connected:
            return  # it was lost meanwhile, and the command has failed
        try:
            await connection.send_command(*command, check_health=False)
        except (RedisError, OSError) as error:
            self._lose(error, connection)

    async def _read(self, connection: AbstractConnection) -> None:
        """Pass on replies until the connection is lost."""
        try:
            while True:
                reply: Any
                try:
                    reply = await connection.read_response()
                except ResponseError as error:
                    reply = error
                self._answer(reply)
                if isinstance(reply, _MISPLACED):
                    raise reply
        except (RedisError, OSError, IndexError, ValueError, TypeError) as error:
            self._lose(error, connection)

    def _answer(self, answer: Any) -> None:
        self._replied_at = self._clock()
        self._given_up = 0
        reply, size = self._pending.popleft()
        self._pending_bytes -= size
        if reply.done():
            return
        if isinstance(answer, BaseException):
            reply.set_exception(answer)
        else:
            reply.set_result(answer)

    def _lose(
        self, error: BaseException, connection: AbstractConnection | None = None
    ) -> None:
        """Give up the connection, or nothing if it has been given up already."""
        lost = self._connection
        if lost is None or connection not in (None, lost):
            return
        self._connection = None
        for reply, _ in self._pending:
            if not reply.done():
                reply.set_exception(store_error(error))
        self._pending.clear()
        self._pending_bytes = 0
        self._start(_close(lost))

    def _start(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(retrieve)


async def _close(connection: AbstractConnection) -> None:
    await connection.disconnect(nowait=True)
