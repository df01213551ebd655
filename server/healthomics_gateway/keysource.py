"""Where JWK sets are read from: a file or a URL."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TypeAlias

import aiohttp
from yarl import URL

from healthomics_gateway.hosts import is_loopback
from healthomics_gateway.jwks import MAX_BYTES, KeySetError
from healthomics_gateway.threads import OneAtATime

HTTP_OK = 200
HEADERS = {
    "Accept": "application/jwk-set+json, application/json",
    "Accept-Encoding": "identity",  # what is compressed would have two sizes
}

Read: TypeAlias = Callable[[], Awaitable[bytes]]


def url_fault(url: str) -> str | None:
    """Tell why keys can't be taken from a URL: others could put theirs in."""
    try:
        parts = URL(url)
    except ValueError:
        return "it isn't a URL"
    if not parts.host or parts.user or parts.password or parts.fragment:
        return "write a URL that has a host, and no user and no fragment"
    if parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.host)):
        return None
    return "write an https URL; http is for hosts of this machine alone"


def file_reader(path: Path) -> Read:
    """Read a set from a file."""
    # Its own thread: a network file system that hangs must not use up the loop's.
    return partial(OneAtATime("jwks-file").run, partial(_read_file, path))


def _read_file(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def url_reader(url: str, *, ca_file: Path | None = None) -> Read:
    """Read a set from a URL; `ca_file` takes the place of the system's authorities."""
    tls = ssl.create_default_context(cafile=ca_file)
    tls.minimum_version = ssl.TLSVersion.TLSv1_2
    return partial(_get, url, tls)


async def _get(url: str, tls: ssl.SSLContext) -> bytes:
    async with (
        aiohttp.ClientSession(
            auto_decompress=False,
            connector=aiohttp.TCPConnector(force_close=True, ssl=tls),
            headers=HEADERS,
            middlewares=(_ask_once,),
        ) as session,
        session.get(url, allow_redirects=False) as response,
    ):
        if response.status != HTTP_OK:
            raise KeySetError(f"the answer's status is {response.status}")
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > MAX_BYTES:
                break  # a set of this size isn't read
        return bytes(body)


async def _ask_once(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Keep aiohttp from replaying what a connection has lost."""
    try:
        return await handler(request)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise KeySetError(type(error).__name__) from error
