"""Sends HTTP GETs with limits on time and size, and follows no redirect.

A failure is reported as a `Failure`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import aiohttp
from aiohttp.http_exceptions import LineTooLong
from yarl import URL

from healthomics_gateway.net.resolver import Resolver
from healthomics_gateway.upstream.classify import names_error
from healthomics_gateway.upstream.http_session import (
    ConnectionLostError,
    GetProgress,
    current_get,
    new_session,
)
from healthomics_gateway.upstream.reply import Failure, Reply

KEEP_ALIVE_SECONDS = 15.0
# For the rest of an error's body after a header has named the error. It is never all of
# the time that the attempt has left.
NAMED_ERROR_BODY_SECONDS = 1.0


class TransportError(Exception):
    """There was no response; `failure` says why."""

    def __init__(self, failure: Failure) -> None:
        """Create an error with `failure`."""
        super().__init__(failure.name)
        self.failure = failure


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
        proxy: str | None = None,
    ) -> None:
        """Create a pool inside an event loop; it trusts the certificates of `ca_file`.

        `proxy` is the URL of an HTTP proxy, through which tunnels are opened.
        """
        self._attempt_timeout_seconds = attempt_timeout_seconds
        self._max_body_bytes = max_body_bytes
        session = partial(
            new_session,
            ca_file=ca_file,
            connect_timeout_seconds=connect_timeout_seconds,
            limit=max_connections,
            proxy=proxy,
            resolver=Resolver(),
        )
        self._kept_alive = session(keepalive_timeout=KEEP_ALIVE_SECONDS)
        self._fresh = session(force_close=True)

    async def get(
        self,
        url: str,
        headers: Mapping[str, str],
        *,
        depart: Callable[[], Awaitable[None]] | None = None,
    ) -> Reply:
        """Return the response, whatever its status, or raise TransportError.

        `url` is encoded. If a kept-alive connection turns out to be closed, the GET is
        sent again on a new one. `depart` is awaited before each time that the GET is
        sent, when the connection is ready. Cancellation closes the connection.
        """
        progress = GetProgress(depart)
        token = current_get.set(progress)
        try:
            async with asyncio.timeout(self._attempt_timeout_seconds) as attempt:
                try:
                    return await self._send(self._kept_alive, url, headers, attempt)
                except ConnectionLostError:
                    if progress.is_connection_new:
                        raise
                    return await self._send(self._fresh, url, headers, attempt)
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            raise TransportError(_failure_of(error, progress)) from error
        finally:
            current_get.reset(token)

    async def close(self) -> None:
        """Close every connection."""
        await self._kept_alive.close()
        await self._fresh.close()

    async def _send(
        self,
        session: aiohttp.ClientSession,
        url: str,
        headers: Mapping[str, str],
        attempt: asyncio.Timeout,
    ) -> Reply:
        async with session.get(
            URL(url, encoded=True), headers=headers, allow_redirects=False
        ) as response:
            return await self._read_reply(response, attempt)

    async def _read_reply(
        self, response: aiohttp.ClientResponse, attempt: asyncio.Timeout
    ) -> Reply:
        if names_error(response.headers):
            left = (attempt.when() or 0.0) - asyncio.get_running_loop().time()
            try:
                async with asyncio.timeout(min(NAMED_ERROR_BODY_SECONDS, left / 2)):
                    body = await self._read_body(response)
            except TimeoutError:
                body = Failure.TIMEOUT
        else:
            body = await self._read_body(response)
        if isinstance(body, Failure):
            response.close()  # the rest of the body makes the connection unusable
        return Reply(response.status, response.headers, body)

    async def _read_body(self, response: aiohttp.ClientResponse) -> bytes | Failure:
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


def _failure_of(error: Exception, progress: GetProgress) -> Failure:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return Failure.TLS_UNTRUSTED
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return Failure.DNS
    if progress.is_in_handshake:
        return Failure.TLS
    if isinstance(error, TimeoutError):
        return Failure.TIMEOUT
    is_of_proxy = isinstance(error, aiohttp.ClientHttpProxyError)
    if isinstance(error, aiohttp.ClientResponseError) and not is_of_proxy:  # not HTTP
        cause: BaseException | None = error  # the parser's error is behind others
        while cause and not isinstance(cause, LineTooLong):
            cause = cause.__cause__
        return Failure.TOO_LARGE if cause else Failure.MALFORMED
    return Failure.CONNECTION
