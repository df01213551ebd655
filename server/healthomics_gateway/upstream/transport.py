"""One HTTP GET: bounded in time and size, never redirected, its failures named."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import aiohttp
from aiohttp.http_exceptions import LineTooLong
from yarl import URL

from healthomics_gateway.upstream.classify import Failure, Reply, names_error

MAX_HEADER_BYTES = 8190  # of one line
MAX_HEADERS = 64
KEEP_ALIVE_SECONDS = 15.0
NAMED_ERROR_BODY_SECONDS = 1.0  # to end the body of an error that a header has named


class TransportError(Exception):
    """There was no answer: one failure tells why."""

    def __init__(self, failure: Failure) -> None:
        """Tell `failure`."""
        super().__init__(failure.name)
        self.failure = failure


@dataclass(slots=True)
class _Journey:
    """How far one GET has come; aiohttp's errors alone don't tell."""

    is_shaking_hands: bool = False
    is_connection_new: bool = False


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
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=max_connections,
                keepalive_timeout=KEEP_ALIVE_SECONDS,
                ssl=_tls_context(ca_file),
            ),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            max_field_size=MAX_HEADER_BYTES,
            max_headers=MAX_HEADERS,
            max_line_size=MAX_HEADER_BYTES,
            middlewares=(_replay_stale_only,),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=connect_timeout_seconds
            ),
            trace_configs=[_connection_trace()],
        )

    async def get(self, url: str, headers: Mapping[str, str]) -> Reply:
        """Answer whatever the endpoint says, or raise TransportError.

        `url` is encoded. Leaving early, by cancellation too, closes the connection.
        """
        journey = _Journey()
        token = _journey.set(journey)
        try:
            async with (
                asyncio.timeout(self._attempt_timeout_seconds),
                self._session.get(
                    URL(url, encoded=True), headers=headers, allow_redirects=False
                ) as response,
            ):
                return await self._reply(response)
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            raise TransportError(_failure_of(error, journey)) from error
        finally:
            _journey.reset(token)

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()

    async def _reply(self, response: aiohttp.ClientResponse) -> Reply:
        if names_error(response.headers):
            try:
                async with asyncio.timeout(NAMED_ERROR_BODY_SECONDS):
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
        is_long = isinstance(error.__cause__, LineTooLong)
        return Failure.TOO_LARGE if is_long else Failure.MALFORMED
    return Failure.CONNECTION


class _LostError(aiohttp.ClientError):
    """A new connection was lost; aiohttp replays only what is no ClientError."""


async def _replay_stale_only(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Let aiohttp replay a GET once on a kept-alive connection that proves closed.

    It would replay on a new connection too, unseen by whoever counts the calls.
    """
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        if _journey.get().is_connection_new:
            raise _LostError from error
        raise


def _connection_trace() -> aiohttp.TraceConfig:
    async def made(
        _session: aiohttp.ClientSession,
        _context: SimpleNamespace,
        _params: aiohttp.TraceConnectionCreateEndParams,
    ) -> None:
        journey = _journey.get()
        journey.is_shaking_hands = False
        journey.is_connection_new = True

    trace = aiohttp.TraceConfig()
    trace.on_connection_create_end.append(made)
    return trace


class _TlsContext(ssl.SSLContext):
    """Notes that the handshake begins: TCP isn't at fault any more."""

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        _journey.get().is_shaking_hands = True
        return super().wrap_bio(*args, **kwargs)


def _tls_context(ca_file: str) -> ssl.SSLContext:
    context = _TlsContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies certificate and host
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(ca_file)
    return context
