"""One HTTP GET: bounded in time and size, never redirected, its failures named."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.http_exceptions import LineTooLong
from yarl import URL

from healthomics_gateway.upstream.classify import Failure, Reply, names_error

MAX_HEADER_BYTES = 8190  # of one line
MAX_HEADERS = 64
KEEP_ALIVE_SECONDS = 15.0
# To end the body of an error that a header has named; never all of an attempt's time.
NAMED_ERROR_BODY_SECONDS = 1.0


class TransportError(Exception):
    """There was no answer: one failure tells why."""

    def __init__(self, failure: Failure) -> None:
        """Tell `failure`."""
        super().__init__(failure.name)
        self.failure = failure


@dataclass(slots=True)
class _Journey:
    """How far one GET has come; aiohttp's errors alone don't tell."""

    generation: int  # of connections
    is_connection_new: bool = False
    tls: ssl.SSLObject | None = None  # of a new connection

    @property
    def is_shaking_hands(self) -> bool:
        """Whether the handshake has begun and not ended: TCP isn't at fault."""
        return self.tls is not None and self.tls.version() is None


_journey: ContextVar[_Journey] = ContextVar("_journey")


class Transport:
    """A pool of connections to one endpoint."""

    def __init__(
        self,
        *,
        ca_file: str,
        max_connections: int,
        connect_timeout_seconds: float,
        attempt_timeout_seconds: float,
        max_body_bytes: int,
    ) -> None:
        """Trust the certificates of `ca_file`; make it inside an event loop."""
        self._attempt_timeout_seconds = attempt_timeout_seconds
        self._max_body_bytes = max_body_bytes
        self._generation = 0  # of connections: an older one isn't used any more
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=max_connections,
                socket_factory=_new_socket,
                keepalive_timeout=KEEP_ALIVE_SECONDS,
                ssl=_tls_context(ca_file),
            ),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            max_field_size=MAX_HEADER_BYTES,
            max_headers=MAX_HEADERS,
            max_line_size=MAX_HEADER_BYTES,
            middlewares=(self._replay_afresh,),
            request_class=_Request,
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=connect_timeout_seconds
            ),
        )

    async def get(self, url: str, headers: Mapping[str, str]) -> Reply:
        """Answer whatever the endpoint says, or raise TransportError.

        `url` is encoded. A kept-alive connection that proves closed costs nothing: the
        GET is replayed on a fresh one. Leaving early, by cancellation too, closes the
        connection.
        """
        journey = _Journey(self._generation)
        token = _journey.set(journey)
        try:
            async with (
                asyncio.timeout(self._attempt_timeout_seconds) as attempt,
                self._session.get(
                    URL(url, encoded=True), headers=headers, allow_redirects=False
                ) as response,
            ):
                return await self._reply(response, attempt)
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            raise TransportError(_failure_of(error, journey)) from error
        finally:
            _journey.reset(token)

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()

    async def _replay_afresh(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Let aiohttp replay a GET once when a kept-alive connection proves closed.

        It would also replay what a new connection has lost, unseen by whoever counts
        the calls, and on another one that was kept alive and may be closed as well.
        """
        try:
            return await handler(request)
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
            journey = _journey.get()
            if journey.is_connection_new:
                raise _LostError from error
            self._generation += 1
            journey.generation = self._generation
            raise

    async def _reply(
        self, response: aiohttp.ClientResponse, attempt: asyncio.Timeout
    ) -> Reply:
        if names_error(response.headers):
            left = (attempt.when() or 0.0) - asyncio.get_running_loop().time()
            try:
                async with asyncio.timeout(min(NAMED_ERROR_BODY_SECONDS, left / 2)):
                    body = await self._body(response)
            except TimeoutError:
                body = Failure.TIMEOUT
        else:
            body = await self._body(response)
        if isinstance(body, Failure):
            response.close()  # what is left of the body makes the connection useless
        return Reply(response.status, response.headers, body)

    async def _body(self, response: aiohttp.ClientResponse) -> bytes | Failure:
        encoding = response.headers.get("Content-Encoding", "").strip().lower()
        if encoding not in ("", "identity"):
            return Failure.COMPRESSED
        if (response.content_length or 0) > self._max_body_bytes:
            return Failure.TOO_LARGE
        body = bytearray()
        try:
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > self._max_body_bytes:
                    return Failure.TOO_LARGE
        except aiohttp.ClientError:
            return Failure.CONNECTION
        return bytes(body)


def _failure_of(error: Exception, journey: _Journey) -> Failure:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return Failure.TLS_UNTRUSTED
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return Failure.DNS
    if journey.is_shaking_hands:
        return Failure.TLS
    if isinstance(error, TimeoutError):
        return Failure.TIMEOUT
    if isinstance(error, aiohttp.ClientResponseError):  # it isn't HTTP
        cause: BaseException | None = error  # what the parser raised lies deep
        while cause and not isinstance(cause, LineTooLong):
            cause = cause.__cause__
        return Failure.TOO_LARGE if cause else Failure.MALFORMED
    return Failure.CONNECTION


class _LostError(aiohttp.ClientError):
    """A new connection was lost; aiohttp replays only what is no ClientError."""


class _Request(aiohttp.ClientRequest):
    """Travels on connections of its journey's generation, or on a new one."""

    @property
    def connection_key(self) -> ConnectionKey:
        """What a connection of the pool must match; there is no proxy to tell of."""
        key = super().connection_key
        generation = _journey.get().generation
        return key._replace(proxy_headers_hash=generation) if generation else key


def _new_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    _journey.get().is_connection_new = True
    family, kind, protocol, *_ = address
    return socket.socket(family, kind, protocol)


class _TlsContext(ssl.SSLContext):
    """Keeps hold of the handshake, which can then be asked whether it ended."""

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        tls = super().wrap_bio(*args, **kwargs)
        _journey.get().tls = tls
        return tls


def _tls_context(ca_file: str) -> ssl.SSLContext:
    context = _TlsContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies certificate and host
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(ca_file)
    return context
