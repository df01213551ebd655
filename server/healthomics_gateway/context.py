"""One call, as its stages see it."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network
from typing import Any, TypeAlias
from urllib.parse import unquote

import grpc
from grpc.aio import ServicerContext

from healthomics_gateway.auth.policy import ANONYMOUS, Credential
from healthomics_gateway.runs.source import Caller

REQUEST_ID = "x-request-id"
AWS_REQUEST_ID = "x-amzn-requestid"
HOST = "\0"  # before a host's name: no identity can have it, and so none is a host
# All loopback addresses and Unix sockets: one client can call from any of them.
LOOPBACK = f"{HOST}loopback"
UNIX = "unix:"  # begins the peers of Unix sockets
MAX_NETWORKS = 10_000  # IPv6 hosts whose network is kept; others are computed again

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(slots=True)
class Exchange:
    """A call under way; the stages fill in how it ends."""

    context: ServicerContext[Any, Any]
    method: str  # /package.Service/Method
    request_id: str
    peer: str  # the connection, by `peer_at`
    task: asyncio.Task[Any]  # that the call runs in
    listener: str = ""  # the address that it came in by; empty if there is only one
    has_message: bool = False  # whether its first request message has been read
    identity: str = ANONYMOUS
    credentials: tuple[Credential, ...] = ()  # that prove the identity
    code: grpc.StatusCode = grpc.StatusCode.OK
    reason: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)  # `ErrorInfo.metadata`


# Is given the undecoded messages as they come; gives the encoded answer, or nothing
# where it has written its answers itself.
Handler: TypeAlias = Callable[[Any, Exchange], Awaitable[bytes]]
Trailer: TypeAlias = tuple[str, str | bytes]
Stage: TypeAlias = Callable[[Handler], Handler]


def request_id_of(context: ServicerContext[Any, Any]) -> str:
    """Take the caller's id of the call, or make one up where it is no good."""
    for key, value in context.invocation_metadata() or ():
        if (
            key == REQUEST_ID
            and isinstance(value, str)
            and _REQUEST_ID.fullmatch(value)
        ):
            return value
    return f"{random.getrandbits(128):032x}"


def peer_at(context: ServicerContext[Any, Any], listener: str) -> str:
    """Return what names a call's connection; to be asked while the client is there.

    gRPC gives all connections of all Unix sockets one name. Those of a socket can't be
    told apart, but its `listener` tells it from other sockets.
    """
    peer: str = context.peer()
    return listener or peer if peer == UNIX else peer


def may_be_many(peer: str) -> bool:
    """Return whether several connections may have the name `peer`."""
    return peer.startswith(UNIX)


def caller_at(peer: str) -> Caller:
    """Return the caller at a peer, as gRPC names it: its host, and its connection."""
    scheme, _, address = peer.partition(":")
    if scheme == "ipv4":
        host = address.rpartition(":")[0]
        return Caller(LOOPBACK if host.startswith("127.") else HOST + host, peer)
    if scheme == "ipv6":
        return Caller(_network_of(address.rpartition(":")[0]), peer)
    return Caller(LOOPBACK, peer)  # a Unix socket's


@lru_cache(maxsize=MAX_NETWORKS)
def _network_of(host: str) -> str:
    """Return the network of an IPv6 host, written as gRPC does: %5B2001:db8::1%5D.

    One client may have all of a /64, so its addresses count as one.
    """
    try:
        address = IPv6Address(unquote(host).strip("[]"))
    except ValueError:
        return HOST + host
    if inner := address.ipv4_mapped:
        return LOOPBACK if inner.is_loopback else f"{HOST}{inner}"
    if address.is_loopback:
        return LOOPBACK
    return f"{HOST}{IPv6Network((address.packed, 64), strict=False)}"


def running_task() -> asyncio.Task[Any]:
    """Give the task that runs."""
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("a call runs in a task")
    return task


def trailing_ids(exchange: Exchange, known: Mapping[str, str]) -> tuple[Trailer, ...]:
    """Give the trailers that every call ends with: its own id, and AWS's if any."""
    own = (REQUEST_ID, exchange.request_id)
    aws_request_id = known.get("awsRequestId")
    return (own, (AWS_REQUEST_ID, aws_request_id)) if aws_request_id else (own,)
