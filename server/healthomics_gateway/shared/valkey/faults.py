"""What is wrong with a store, as text for operators; it contains no secret."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator

from redis.asyncio.connection import SSLConnection
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    InvalidResponse,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)

from healthomics_gateway.shared.store import StoreError, StoreFullError
from healthomics_gateway.shared.valkey.urls import StoreUrl

_HANDSHAKE = "the TLS handshake fails: check the port, and ssl_certfile"
_LATE = "it doesn't answer in time while connecting"
_CLOSED = "the connection to it is closed, or can't be opened"
_REFUSED = "it refuses connections: start it, or correct shared.url"
_UNRESOLVED = "its name doesn't resolve: correct shared.url"
_NO_DATABASE = "it has no database"
_ERROR = "it answers with an error"
_NO_ACCESS = "it refuses the user or the password, or requires one: correct shared.url"
# What a server without TLS may cause, depending on how it takes the handshake.
_WITHOUT_TLS = frozenset({_HANDSHAKE, _LATE, _CLOSED})
_UNREACHED = frozenset({_LATE, _CLOSED, _REFUSED, _UNRESOLVED})

# Codes of errors that have no text here. Anything else may be what a wrong server was
# sent, such as the password.
_CODES = frozenset(
    {
        *("ASK", "BUSY", "CROSSSLOT", "ERR", "EXECABORT", "MASTERDOWN", "MISCONF"),
        *("NOREPLICAS", "NOSCRIPT", "TRYAGAIN", "UNKILLABLE", "WRONGTYPE"),
    }
)

# By the class of the error; the first that fits.
_TEXTS: tuple[tuple[type[BaseException], str], ...] = (
    (OutOfMemoryError, "it has no free memory: raise its maxmemory"),
    (
        NoPermissionError,
        "its user lacks a permission: see docs/guide/sharing.md for its rules",
    ),
    (
        ReadOnlyError,
        "it is a read-only replica: set shared.url to its primary, or use its Sentinel",
    ),
    (BusyLoadingError, "it is still loading its data"),
    (MovedError, "another server of the cluster has the keys now"),
    (ClusterDownError, "its cluster is down"),
    (AuthenticationError, _NO_ACCESS),
    (InvalidResponse, "it isn't a Valkey or Redis server: correct shared.url"),
    (
        ssl.SSLCertVerificationError,
        "its certificate isn't trusted: set ssl_ca_certs in shared.url",
    ),
    (ssl.SSLError, _HANDSHAKE),
    (socket.gaierror, _UNRESOLVED),
    (ConnectionRefusedError, _REFUSED),
    (FileNotFoundError, "a file of shared.url doesn't exist: correct its path"),
    (PermissionError, "a file of shared.url may not be used: correct its permissions"),
    (TimeoutError, _LATE),
)
# By what a server says.
_MESSAGES = (
    ("DENIED", "it is in protected mode: set a password there, and in shared.url"),
    ("DB index is out of range", _NO_DATABASE),
    (
        "unknown command 'SENTINEL'",
        "it isn't one: correct the port, or begin shared.url with redis://",
    ),
    ("unknown command", "its version is too old, or it doesn't have all commands"),
    ("max number of clients", "it has too many clients: raise its maxclients"),
)


def store_error(
    error: BaseException, *, url: StoreUrl | None = None, of_sentinel: bool = False
) -> StoreError:
    """Return the error of the store that an error of the client or the system is.

    If it was raised while connecting, `url` is what was connected to, or
    `of_sentinel`: the Sentinels of `url`.
    """
    if isinstance(error, StoreError):
        return error
    text = _text_of(error)
    if url:
        text += _advice(text, url, of_sentinel=of_sentinel)
    if of_sentinel:
        text = f"its Sentinel can't be asked: {text}"
    if isinstance(error, OutOfMemoryError):
        return StoreFullError(text)
    return StoreError(text)


def _advice(text: str, url: StoreUrl, *, of_sentinel: bool) -> str:
    """Return what is added to a text about a connection."""
    if text == _NO_DATABASE:
        return f" {url.options.get('db', 0)}: correct the number in shared.url"
    if text == _NO_ACCESS:
        names = ", with the options sentinel_username and sentinel_password"
        return names if of_sentinel else ""
    if issubclass(url.connection_class, SSLConnection) and text in _WITHOUT_TLS:
        scheme = f"redis+{url.kind}" if url.kind else "redis"
        return f"; if the server has no TLS, use {scheme}://"
    return ""


def is_reached(error: BaseException) -> bool:
    """Return whether the server was reached that an error is about."""
    return isinstance(error, StoreError) or _text_of(error) not in _UNREACHED


def _text_of(error: BaseException) -> str:
    chain = tuple(_chain(error))
    for begin, text in _MESSAGES:
        if str(error).startswith(begin):
            return text
    for kind, text in _TEXTS:
        if any(isinstance(each, kind) for each in chain):
            return text
    if isinstance(error, ResponseError):
        code = str(error).partition(" ")[0]
        return f"{_ERROR} ({code})" if code in _CODES else _ERROR
    return _CLOSED


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those that it comes from."""
    each: BaseException | None = error
    while each is not None:
        yield each
        each = each.__cause__ or each.__context__
