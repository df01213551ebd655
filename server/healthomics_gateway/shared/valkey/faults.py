"""What is wrong with a store, as text for operators; it contains no secret."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator

from redis.asyncio.sentinel import MasterNotFoundError
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

_HANDSHAKE = "the TLS handshake fails: check the port, and ssl_certfile"
_LATE = "it doesn't answer in time while connecting"
_CLOSED = "the connection to it is closed, or can't be opened"
_NO_DATABASE = "it has no database"
# What a server without TLS may cause, depending on how it takes the handshake.
_WITHOUT_TLS = frozenset({_HANDSHAKE, _LATE, _CLOSED})

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
    (
        MasterNotFoundError,
        "no Sentinel names a primary: correct the name in shared.url",
    ),
    (MovedError, "another server of the cluster has the keys now"),
    (ClusterDownError, "its cluster is down"),
    (
        AuthenticationError,
        "it refuses the user or the password, or requires one: correct shared.url",
    ),
    (InvalidResponse, "it isn't a Valkey or Redis server: correct shared.url"),
    (
        ssl.SSLCertVerificationError,
        "its certificate isn't trusted: set ssl_ca_certs in shared.url",
    ),
    (ssl.SSLError, _HANDSHAKE),
    (socket.gaierror, "its name doesn't resolve: correct shared.url"),
    (ConnectionRefusedError, "it refuses connections: start it, or correct shared.url"),
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
        "it isn't a Sentinel: correct the port, or begin shared.url with redis://",
    ),
    ("unknown command", "its version is too old, or it doesn't have all commands"),
    ("max number of clients", "it has too many clients: raise its maxclients"),
)


def store_error(
    error: BaseException, *, has_tls: bool = False, database: int = 0
) -> StoreError:
    """Return the error of the store that an error of the client or the system is.

    `has_tls` and `database` are those of the connection.
    """
    if isinstance(error, StoreError):
        return error
    text = _text_of(error)
    if text == _NO_DATABASE:
        text += f" {database}: correct the number in shared.url"
    if has_tls and text in _WITHOUT_TLS:
        text += "; if the server has no TLS, use redis://"
    if isinstance(error, OutOfMemoryError):
        return StoreFullError(text)
    return StoreError(text)


def _text_of(error: BaseException) -> str:
    chain = tuple(_chain(error))
    for begin, text in _MESSAGES:
        if str(error).startswith(begin):
            return text
    for kind, text in _TEXTS:
        if any(isinstance(each, kind) for each in chain):
            return text
    if isinstance(error, ResponseError):
        return f"it answers with an error ({str(error).partition(' ')[0][:20]})"
    return _CLOSED


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those that it comes from."""
    each: BaseException | None = error
    while each is not None:
        yield each
        each = each.__cause__ or each.__context__
