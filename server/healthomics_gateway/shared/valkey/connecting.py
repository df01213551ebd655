"""Opens connections to the server that has the keys, in whatever set-up it is."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from redis.asyncio.connection import AbstractConnection, SSLConnection
from redis.exceptions import MovedError, RedisError

from healthomics_gateway.shared.store import StoreError
from healthomics_gateway.shared.valkey.bounded_parser import bounded_parser
from healthomics_gateway.shared.valkey.faults import is_reached, store_error
from healthomics_gateway.shared.valkey.urls import StoreUrl
from healthomics_gateway.threads import in_thread

CONNECT_SECONDS = 3.0  # for a connection that is ready to be used
SENTINEL_SECONDS = 0.7  # for one Sentinel to answer
LEAST_VERSION = 7  # of Valkey or Redis: scripts with flags
_VERSION = re.compile(rb"(\d+)\.")
# The last three: what a server that isn't a store may make of a reply.
_FAILURES = (RedisError, OSError, StoreError, ValueError, TypeError, AttributeError)

_T = TypeVar("_T")


class Servers:
    """The servers of a store."""

    def __init__(self, url: StoreUrl, *, key: str, max_reply_bytes: int) -> None:
        """Connect to the server that has `key`; bound what is buffered of a reply."""
        self._url = url
        self._key = key
        self._first = 0  # of the addresses, the one to try first
        self.version = ""  # of the server, as it was last connected to
        common = {
            "parser_class": bounded_parser(max_reply_bytes),
            "protocol": 2,
            "socket_timeout": None,  # the replica has one
            "socket_connect_timeout": CONNECT_SECONDS,
            "driver_info": None,
        }
        self._options = {**url.options, **common}
        self._sentinel_options = {
            **{key: url.options[key] for key in url.options if key.startswith("ssl_")},
            **url.sentinel_options,
            **common,
        }

    async def connect(self) -> AbstractConnection:
        """Return a new connection, within CONNECT_SECONDS; raises StoreError."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                return await self._connect()
        except _FAILURES as error:
            raise store_error(error, url=self._url) from None

    async def _connect(self) -> AbstractConnection:
        if self._url.kind == "sentinel":
            address = await self._primary()
            self._first += 1  # another may know better, if this primary can't be used
            connection = await self._open(*address)
            self._first -= 1
            return connection
        if self._url.kind == "cluster":
            return await self._of_first(self._open_in_cluster)
        return await self._open(*(self._url.addresses or ((),))[0])

    async def _of_first(self, ask: Callable[[str, int], Awaitable[_T]]) -> _T:
        """Return what the first server answers that can be asked.

        If all fail, raise the error of one that was reached, as it says more.
        """
        addresses = self._url.addresses
        failure: BaseException | None = None
        for _ in addresses:
            address = addresses[self._first % len(addresses)]
            self._first += 1  # another is tried next, also if this one is too slow
            try:
                answer = await ask(*address)
            except (RedisError, OSError, StoreError) as error:
                if failure is None or not is_reached(failure):
                    failure = error
            else:
                self._first -= 1
                return answer
        raise failure or StoreError("shared.url has no host")

    async def _open(self, *address: Any) -> AbstractConnection:
        """Return a connection to a server that is new enough."""
        connection = await self._dial(self._options, *address)
        async with _closed_by_failure(connection):
            self._check_version(await _ask(connection, "HELLO", "2"))
        return connection

    async def _dial(
        self, options: Mapping[str, Any], *address: Any
    ) -> AbstractConnection:
        place = dict(zip(("host", "port"), address, strict=False))
        connection = self._url.connection_class(**options, **place)
        async with _closed_by_failure(connection):
            if isinstance(connection, SSLConnection):
                # It reads files; later it is only returned.
                await in_thread(connection.ssl_context.get, name="store-tls")
            await connection.connect()  # type: ignore[no-untyped-call]
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
        """Return the address of the primary that a Sentinel names."""
        try:
            return await self._of_first(self._named_by)
        except _FAILURES as error:
            raise store_error(error, url=self._url, of_sentinel=True) from None

    async def _named_by(self, host: str, port: int) -> tuple[str, int]:
        """Ask a Sentinel for the address of the primary."""
        asked = "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._url.service
        async with asyncio.timeout(SENTINEL_SECONDS):
            connection = await self._dial(self._sentinel_options, host, port)
            try:
                found = await _ask(connection, *asked)
            finally:
                await connection.disconnect(nowait=True)
        if found is None:
            raise StoreError(
                "its Sentinels don't know the service: correct its name in shared.url"
            )
        primary, primary_port = found
        return primary.decode(), int(primary_port)

    async def _open_in_cluster(self, host: str, port: int) -> AbstractConnection:
        """Ask a server of the cluster for the one that has the keys; connect to it."""
        connection = await self._open(host, port)
        async with _closed_by_failure(connection):
            try:
                await _ask(connection, "EXISTS", self._key)
            except MovedError as moved:
                await connection.disconnect(nowait=True)
                return await self._open(moved.host or host, moved.port)
        return connection


async def _ask(connection: AbstractConnection, *command: str) -> Any:
    await connection.send_command(*command, check_health=False)
    return await connection.read_response()


@asynccontextmanager
async def _closed_by_failure(connection: AbstractConnection) -> AsyncIterator[None]:
    try:
        yield
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
