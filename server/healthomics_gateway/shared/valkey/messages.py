"""Subscriptions to channels, on a connection that is renewed whenever it is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import structlog
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from healthomics_gateway.background import Background
from healthomics_gateway.backoff import backoff_seconds
from healthomics_gateway.shared.store import StoreError
from healthomics_gateway.shared.valkey.commands import Connect
from healthomics_gateway.shared.valkey.faults import store_error
from healthomics_gateway.threads import retrieve

PING_SECONDS = 2.0
MAX_SILENT = 2  # times in a row, until the connection is given up
CONFIRM_SECONDS = 0.03  # that a subscription is waited for
MIN_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.5, 1.0  # before the next connection
AT_ONCE = 500  # channels in one command

_log = structlog.get_logger("shared")


class Messages:
    """The channels that are subscribed to; a message is passed on as it arrives.

    What is published while the connection is lost doesn't arrive.
    """

    def __init__(
        self,
        connect: Connect,
        *,
        deliver: Callable[[str, bytes], None],
        ping_seconds: float = PING_SECONDS,
    ) -> None:
        """Begin without a connection; `deliver` gets a channel and its message.

        After `ping_seconds` without any, the server is asked whether it lives.
        """
        self._connect = connect
        self._ping_seconds = ping_seconds
        self._deliver = deliver
        self._background = Background()
        self._channels: dict[str, asyncio.Event] = {}  # set when it is confirmed
        self._connection: AbstractConnection | None = None
        self._sending: set[asyncio.Task[None]] = set()
        self.fault = ""  # why no messages arrive at the moment

    async def subscribe(self, channel: str) -> None:
        """Deliver the messages of a channel; wait for a moment until that is so."""
        if not self._background.runs("messages"):
            self._background.start("messages", self._follow)
        if channel in self._channels:
            return  # it is renewed with the connection
        confirmed = self._channels[channel] = asyncio.Event()
        if self._connection:
            self._send(self._connection, "SUBSCRIBE", channel)
            waiting = asyncio.create_task(confirmed.wait())
            try:
                await asyncio.wait((waiting,), timeout=CONFIRM_SECONDS)
            finally:
                waiting.cancel()

    async def unsubscribe(self, channel: str) -> None:
        """Deliver no more messages of a channel."""
        if self._channels.pop(channel, None) and self._connection:
            self._send(self._connection, "UNSUBSCRIBE", channel)

    async def close(self) -> None:
        """Close the connection, and open no other."""
        await self._background.stop()
        await self._disconnect()

    async def _follow(self) -> None:
        """Receive for ever."""
        failures = 0
        while True:
            try:
                self._connection = await self._connect()
                self._renew(self._connection)
                failures = 0
                await self._receive(self._connection)
            except (RedisError, OSError, StoreError, ValueError, TypeError) as error:
                self._note(str(store_error(error)))
            await self._disconnect()
            await asyncio.sleep(  # before the next connection
                backoff_seconds(
                    failures,
                    base_seconds=MIN_PAUSE_SECONDS,
                    max_seconds=MAX_PAUSE_SECONDS,
                )
            )
            failures += 1

    def _renew(self, connection: AbstractConnection) -> None:
        channels = tuple(self._channels)
        for at in range(0, len(channels), AT_ONCE):
            self._send(connection, "SUBSCRIBE", *channels[at : at + AT_ONCE])

    async def _receive(self, connection: AbstractConnection) -> None:
        """Pass on messages until the connection is lost."""
        silent = 0
        while True:
            reply = await connection.read_response(timeout=self._ping_seconds)
            silent = silent + 1 if reply is None else 0
            if silent == MAX_SILENT:
                raise StoreError("it doesn't answer on the connection for messages")
            if silent:
                self._send(connection, "PING")
            else:
                self._note("")  # if it may not subscribe, an error comes before a pong
            if isinstance(reply, list):
                self._handle(reply)
            await asyncio.sleep(0)  # reading doesn't yield while there is more to read

    def _handle(self, reply: list[Any]) -> None:
        kind, channel, content = (*reply, b"", b"", b"")[:3]
        name = channel.decode(errors="replace") if isinstance(channel, bytes) else ""
        if kind == b"subscribe" and name in self._channels:
            self._channels[name].set()
        elif kind == b"message" and name in self._channels:
            self._handle_value(name, content)

    def _handle_value(self, name: str, value: Any) -> None:
        if isinstance(value, bytes):
            self._deliver(name, value)

    def _note(self, fault: str) -> None:
        if fault and not self.fault:
            _log.warning("store_messages_lost", why=fault)
        elif self.fault and not fault:
            _log.info("store_messages_resumed")
        self.fault = fault

    def _send(self, connection: AbstractConnection, *command: str) -> None:
        # A task, because redis-py closes a connection if sending is cancelled.
        task = asyncio.create_task(_sent(connection, command))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)
        task.add_done_callback(retrieve)

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        for confirmed in self._channels.values():
            confirmed.clear()
        if connection:
            await connection.disconnect(nowait=True)


async def _sent(connection: AbstractConnection, command: tuple[str, ...]) -> None:
    if connection.is_connected:
        await connection.send_command(*command, check_health=False)
