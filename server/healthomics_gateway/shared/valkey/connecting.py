"""Opens connections to the server that has the keys, in whatever set-up it is."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from redis.asyncio.connection import AbstractConnection, SSLConnection
from redis.asyncio.sentinel import Sentinel
from redis.exceptions import MovedError, RedisError

from healthomics_gateway.shared.store import StoreError
from healthomics_gateway.shared.valkey.bounded_parser import bounded_parser
from healthomics_gateway.shared.valkey.faults import store_error
from healthomics_gateway.shared.valkey.urls import StoreUrl
from healthomics_gateway.threads import in_thread

CONNECT_SECONDS = 3.0  # for a connection that is ready to be used
SENTINEL_SECONDS = 0.7  # for one Sentinel to answer
LEAST_VERSION = 7  # of Valkey or Redis: scripts with flags
_VERSION = re.compile(rb"(\d+)\.")


class Servers:
    """The servers of a store."""

    def __init__(self, url: StoreUrl, *, key: str, max_reply_bytes: int) -> None:
        """Connect to the server that has `key`; bound what is buffered of a reply."""
        self._url = url
        self._key = key
        self._first = 0  # of the addresses, the one to try first
        self.version = ""  # of the server, as it was last connected to
        self._options = {
            **url.options,
            "parser_class": bounded_parser(max_reply_bytes),
            "protocol": 2,
            "socket_timeout": None,  # the replica has one
            "socket_connect_timeout": CONNECT_SECONDS,
            "driver_info": None,
        }

    async def connect(self) -> AbstractConnection:
        """Return a new connection, within CONNECT_SECONDS; raises StoreError."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                return await self._connect()
        except (RedisError, OSError, ValueError, TypeError, AttributeError) as error:
            raise store_error(
                error,
                has_tls=issubclass(self._url.connection_class, SSLConnection),
                database=self._url.options.get("db", 0),
            ) from None

    async def _connect(self) -> AbstractConnection:
        if self._url.kind == "sentinel":
            return await self._open(*await self._primary())
        if self._url.kind == "cluster":
            return await self._open_in_cluster()
        return await self._open(*(self._url.addresses or ((),))[0])

    async def _open(self, *address: Any) -> AbstractConnection:
        """Return a connection to a server that is new enough."""
        place = dict(zip(("host", "port"), address, strict=False))
        connection = self._url.connection_class(**self._options, **place)
        try:
            if isinstance(connection, SSLConnection):
                # It reads files; later it is only returned.
                await in_thread(connection.ssl_context.get, name="store-tls")
            await connection.connect()  # type: ignore[no-untyped-call]
            await connection.send_command("HELLO", "2", check_health=False)
            self._check_version(await connection.read_response())
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection

    def _check_version(self, greeting: Any) -> None:
        facts = dict(zip(greeting[::2], greeting[1::2], strict=False))
        version = facts.get(b"version", b"")
        match = _VERSION.match(version)
        if match is None or int(match[1]) < LEAST_VERSION:
            raise StoreError(
                f"its version is too old: at least {LEAST_VERSION} is needed"
            )
        server = facts.get(b"server", b"redis")
        self.version = f"{server.decode()} {version.decode()}"

    async def _primary(self) -> tuple[str, int]:
        options = {
            key: value
            for key, value in self._url.options.items()
            if key.startswith("ssl_")
        }
        sentinel = Sentinel(  # type: ignore[no-untyped-call]
            self._url.addresses,
            sentinel_kwargs={
                **options,
                **self._url.sentinel_options,
                "ssl": issubclass(self._url.connection_class, SSLConnection),
                "socket_timeout": SENTINEL_SECONDS,
                "socket_connect_timeout": SENTINEL_SECONDS,
                "protocol": 2,
                "retry": None,
            },
        )
        try:
            host, port = await sentinel.discover_master(self._url.service)
        finally:
            for each in sentinel.sentinels:
                await each.aclose()
        return str(host), int(port)

    async def _open_in_cluster(self) -> AbstractConnection:
        """Return a connection that the first server that answers leads to."""
        addresses = self._url.addresses
        failure: BaseException = StoreError("no server of the cluster answers")
        for _ in addresses:
            address = addresses[self._first % len(addresses)]
            self._first += 1  # another is tried next, also if this one is too slow
            try:
                connection = await self._follow(*address)
            except (RedisError, OSError, StoreError) as error:
                failure = error
            else:
                self._first -= 1
                return connection
        raise failure

    async def _follow(self, host: str, port: int) -> AbstractConnection:
        """Ask a server of the cluster for the one that has the keys."""
        connection = await self._open(host, port)
        try:
            await connection.send_command("EXISTS", self._key, check_health=False)
            await connection.read_response()
        except MovedError as moved:
            await connection.disconnect(nowait=True)
            return await self._open(moved.host or host, moved.port)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection
