"""Reads JWK sets from a file or a URL."""

from __future__ import annotations

import re
import ssl
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeAlias

import aiohttp
from yarl import URL

from healthomics_gateway.auth.jwks import MAX_BYTES, KeySetError
from healthomics_gateway.files import FileError, read_regular
from healthomics_gateway.net.addresses import is_loopback
from healthomics_gateway.net.hosts import NOT_A_HOST, is_host
from healthomics_gateway.net.proxies import ProxyError, proxy_for
from healthomics_gateway.net.resolver import Resolver
from healthomics_gateway.threads import OneAtATime
from healthomics_gateway.tls.authorities import client_context

HTTP_OK = 200
HEADERS = {
    "Accept": "application/jwk-set+json, application/json",
    "Accept-Encoding": "identity",  # so that MAX_BYTES limits what is received
}

_REDIRECTED = "; redirects aren't followed: set jwt.jwks_url to the final URL"
_REFUSED = "; if the keys aren't public, set jwt.jwks_token_file"
ADVICE = {
    **dict.fromkeys((301, 302, 303, 307, 308), _REDIRECTED),
    **dict.fromkeys((401, 403), _REFUSED),
}
MAX_BLANKS = 1024  # bytes in which a JSON object has to begin

_TOKEN = re.compile(rb"[A-Za-z0-9._~+/-]+=*")  # RFC 6750
_KIND = re.compile(
    r"[A-Za-z0-9.+-]{1,40}/[A-Za-z0-9.+-]{1,60}(; *charset=[\w-]{1,20})?"
)
_JSON_OBJECT = re.compile(rb"(\xef\xbb\xbf)?\s*\{")

Read: TypeAlias = Callable[[], Awaitable[bytes]]


def url_fault(url: str) -> str | None:
    """Return why keys can't be read from a URL, None if they can."""
    try:
        parts = URL(url)
        host, port = parts.host, parts.port  # `host` decodes IDNA
    except ValueError:
        return "it isn't a URL"
    if not host or port == 0 or parts.user or parts.password or parts.fragment:
        return "write a URL with a host, without user, fragment or port 0"
    if not is_host(host):
        return NOT_A_HOST
    if parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host)):
        return _proxy_fault(url)
    return "write an https URL; http is for loopback hosts only"


def _proxy_fault(url: str) -> str | None:
    try:
        proxy_for(url)
    except ProxyError as error:
        return str(error)
    return None


def file_reader(path: Path, *, read: Callable[[Path], bytes] = read_regular) -> Read:
    """Return a function that reads a set from a file. It raises KeySetError."""
    # A thread of its own: a network file system that hangs must not block the threads
    # of the event loop.
    return partial(_read_in, OneAtATime("jwks-file"), "jwks_file", partial(read, path))


async def _read_in(
    threads: OneAtATime, setting: str, read: Callable[[], bytes]
) -> bytes:
    """Return the contents of a setting's file. Raises KeySetError."""
    try:
        return await threads.run(read)
    except FileError as fault:
        raise KeySetError(f"jwt.{setting}: {fault}") from None


def url_reader(
    url: str,
    *,
    ca_file: Path | None = None,
    token_file: Path | None = None,
    proxy: str | None = None,
) -> Read:
    """Return a function that reads a set from a URL.

    `ca_file` replaces the system's authorities. `token_file` holds a bearer token,
    which is sent only to this URL. Both are read again for each fetch. Raises
    KeySetError if `ca_file` is invalid.
    """
    authorities = _Authorities(ca_file)
    ca_threads, threads = OneAtATime("jwks-ca-file"), OneAtATime("jwks-token-file")
    resolver = Resolver()  # shared by all reads, each of which opens a connection

    async def read() -> bytes:
        headers = dict(HEADERS)
        if token_file:
            token = partial(read_regular, token_file)
            raw = await _read_in(threads, "jwks_token_file", token)
            headers["Authorization"] = f"Bearer {_token_in(raw)}"
        connector = aiohttp.TCPConnector(
            force_close=True,
            resolver=resolver,
            ssl=await ca_threads.run(authorities.tls_context),
        )
        return await _get(url, connector, headers, proxy)

    return read


class _Authorities:
    """The authorities in a file, which may be replaced, or those of the system."""

    def __init__(self, file: Path | None) -> None:
        """Read the authorities. Raises KeySetError."""
        self._file = file
        self._content: bytes | None = None
        self._tls = ssl.create_default_context()
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_2
        self.tls_context()

    def tls_context(self) -> ssl.SSLContext:
        """Return a context that trusts them. It blocks. Raises KeySetError."""
        if self._file is None:
            return self._tls
        try:
            content = read_regular(self._file)
            if content != self._content:
                self._tls, self._content = client_context(content), content
        except ValueError as fault:
            raise KeySetError(f"jwt.ca_file: {fault}") from None
        return self._tls


def _token_in(raw: bytes) -> str:
    """Return the token in a file, without the newline that editors add."""
    token = _TOKEN.fullmatch(raw.strip())
    if not token:
        raise KeySetError("jwt.jwks_token_file: it doesn't contain a bearer token")
    return token[0].decode()


async def _get(
    url: str,
    connector: aiohttp.TCPConnector,
    headers: Mapping[str, str],
    proxy: str | None,
) -> bytes:
    async with (
        aiohttp.ClientSession(
            auto_decompress=False,
            connector=connector,
            headers=headers,
            middlewares=(_send_once,),
        ) as session,
        session.get(url, allow_redirects=False, proxy=proxy) as response,
    ):
        kind = response.headers.get("Content-Type", "")
        content = f"content type {kind if _KIND.fullmatch(kind) else 'unknown'}"
        if response.status != HTTP_OK:
            advice = ADVICE.get(response.status, "")
            raise KeySetError(f"status {response.status}, {content}{advice}")
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > MAX_BYTES:
                break  # `read_keys` refuses it
        if len(body) <= MAX_BYTES and not _JSON_OBJECT.match(body[:MAX_BLANKS]):
            raise KeySetError(f"it isn't a JSON object; {content}")
        return bytes(body)


async def _send_once(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Send a request once; aiohttp would send it again when a connection is lost."""
    try:
        return await handler(request)
    except aiohttp.ClientHttpProxyError as error:
        # Its text contains the proxy's URL.
        fault = f"the proxy answered with status {error.status}"
        raise KeySetError(fault) from None
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise KeySetError(type(error).__name__) from error
