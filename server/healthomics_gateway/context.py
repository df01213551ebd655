"""The state of one call, as the interceptors and the services see it."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network
from math import inf
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import unquote
from weakref import ReferenceType, ref

import grpc
from grpc.aio import ServicerContext

from healthomics_gateway.auth.policy import ANONYMOUS, UNRULED, Access, Credential
from healthomics_gateway.errors.exceptions import AwsAnswer, GatewayError, NotAskedError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.runs.source import NO_ATTEMPT, NO_CALLER, Caller, UpstreamInfo
from healthomics_gateway.telemetry.message_spans import MessageSpans
from healthomics_gateway.telemetry.spans import Span

if TYPE_CHECKING:
    from healthomics.v1.run_pb2 import Run

REQUEST_ID = "x-request-id"
AWS_REQUEST_ID = "x-amzn-requestid"
HOST = "\0"  # begins the names of hosts, as no identity can contain it
# The name for all loopback addresses and Unix sockets: one client can use them all.
LOOPBACK = f"{HOST}loopback"
UNIX = "unix:"  # begins the peer names of Unix sockets
MAX_NETWORKS = 10_000  # IPv6 hosts whose network is cached

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

Trailer: TypeAlias = tuple[str, str | bytes]
Headers: TypeAlias = Sequence[tuple[str, str | bytes]]  # gRPC's metadata


@dataclass(slots=True, weakref_slot=True)
class CallContext:
    """The state of one call: its caller, what is known about it, and its outcome.

    The interceptors and the service set what they learn.
    """

    rpc: ServicerContext[Any, Any]  # gRPC's
    method: str  # /package.Service/Method
    request_id: str
    peer: str  # the connection, as `peer_at` returns it
    task: asyncio.Task[Any]  # that the call runs in
    # They may have a token. The method's handler drops them: a watch lasts for hours.
    headers: Headers = field(default=(), repr=False)
    listener: str = ""  # the address that it came in by; empty if there is only one
    has_message: bool = False  # whether its first request message has been read
    caller: Caller = NO_CALLER  # for limits: a host until an identity is proven
    identity: str = ANONYMOUS
    credentials: tuple[Credential, ...] = ()  # that prove the identity
    access: Access = UNRULED  # of a long call, by the rules as they are now
    # Returns the run that a watch has shown, None before that.
    watched: Callable[[], Run | None] | None = None
    is_revoked: bool = False  # new rules end the call
    run_id: str = ""  # if it is valid
    upstream: UpstreamInfo = NO_ATTEMPT
    is_from_cache: bool = False
    is_from_store: bool = False  # of all replicas; then it's from a cache too
    end: float = inf  # when a stream has to end, in seconds of the monotonic clock
    error: GatewayError | None = None
    hidden: GatewayError | None = None  # the error that the client may not receive
    code: grpc.StatusCode = grpc.StatusCode.OK
    reason: str = ""
    abort: Callable[[], Awaitable[Any]] | None = None  # sends the status of `error`
    trace_ids: Mapping[str, str] | None = None  # for its log line
    span: Span | None = None  # None if it isn't recorded; so is the next
    messages: MessageSpans | None = None

    def received(self, error: GatewayError) -> GatewayError:
        """Return the error that the client receives for an error.

        A restricted caller must not learn whether a run exists.
        """
        if not self.access.hides(error):
            return error
        # Its traceback refers to frames that refer to this context: a reference cycle.
        self.hidden = error.with_traceback(None)
        self.hidden.__context__ = None  # which has a traceback too
        return GatewayError(Reason.CALLER_NOT_AUTHORIZED)

    @property
    def hides_upstream(self) -> bool:
        """Return whether the client must receive nothing of HealthOmics' answers.

        This holds for every error of a restricted caller. AWS's answer and the number
        of attempts would show whether the run exists, even if a deadline or a shutdown
        ends the call while its rejection is delayed.
        """
        return self.error is not None and self.access.is_restricted

    @property
    def metadata(self) -> dict[str, str]:
        """The facts that the client receives, as `ErrorInfo.metadata`."""
        return self._own_facts if self.hides_upstream else self.facts

    def trailing_ids(self) -> tuple[Trailer, ...]:
        """Return the trailers: the call's id, and AWS's if the client receives it."""
        own = (REQUEST_ID, self.request_id)
        answer = None if self.hides_upstream else self._answer
        if not (answer and answer.request_id):
            return (own,)
        return own, (AWS_REQUEST_ID, answer.request_id)

    @property
    def facts(self) -> dict[str, str]:
        """All facts about the call, for the log; a client may not receive them."""
        known = self._own_facts
        if self.upstream.attempts:
            known["region"] = self.upstream.region
            known["attempts"] = str(self.upstream.attempts)
        return known | (self._answer.metadata if self._answer else {})

    @property
    def _own_facts(self) -> dict[str, str]:
        """The facts that don't depend on the answers of HealthOmics."""
        known = {"runId": self.run_id} if self.run_id else {}
        error = self.error
        if isinstance(error, NotAskedError) and error.reason is _THROTTLED:
            known["local"] = "true"
        return known

    @property
    def _answer(self) -> AwsAnswer | None:
        """AWS's answer: that of the call's error, or else that of the last attempt."""
        failure = self.hidden or self.error
        return (failure and failure.answer) or self.upstream.answer


_THROTTLED = Reason.UPSTREAM_THROTTLED

# Weak, as a task that outlives the call keeps a copy of this variable.
_current: ContextVar[ReferenceType[CallContext]] = ContextVar("current_call")


def set_current_call(call: CallContext) -> None:
    """Set the current call of this task and of the tasks that it starts."""
    _current.set(ref(call))


def current_call() -> CallContext:
    """Return the current call, as gRPC passes a service only its own context.

    Raises LookupError if there is no current call.
    """
    call = _current.get()()
    if call is None:
        raise LookupError("the call has ended")
    return call


# Takes the encoded request messages as they come. Returns the encoded response, or
# b"" if it has written its responses itself.
Handler: TypeAlias = Callable[[Any, CallContext], Awaitable[bytes]]
Interceptor: TypeAlias = Callable[[Handler], Handler]


def headers_of(rpc: ServicerContext[Any, Any]) -> Headers:
    """Return the headers of a call. gRPC copies them each time, so keep them."""
    headers: Any = rpc.invocation_metadata()
    return headers or ()


def request_id_of(headers: Headers) -> str:
    """Return the request id that the client sent, or a new one if it isn't valid."""
    for key, value in headers:
        if (
            key == REQUEST_ID
            and isinstance(value, str)
            and _REQUEST_ID.fullmatch(value)
        ):
            return value
    return f"{random.getrandbits(128):032x}"


def peer_at(rpc: ServicerContext[Any, Any], listener: str) -> str:
    """Return the name of a call's connection; the client must still be connected.

    gRPC has one name for all connections of all Unix sockets. So the connections of a
    Unix socket have the name of its `listener`.
    """
    peer: str = rpc.peer()
    return listener or peer if peer == UNIX else peer


def may_be_shared(peer: str) -> bool:
    """Return whether several connections may share the name `peer`."""
    return peer.startswith(UNIX)


def caller_at(peer: str) -> Caller:
    """Return the caller for a peer name of gRPC: its host and its connection."""
    scheme, _, address = peer.partition(":")
    if scheme == "ipv4":
        host = address.rpartition(":")[0]
        return Caller(LOOPBACK if host.startswith("127.") else HOST + host, peer)
    if scheme == "ipv6":
        return Caller(_network_of(address.rpartition(":")[0]), peer)
    return Caller(LOOPBACK, peer)  # of a Unix socket


@lru_cache(maxsize=MAX_NETWORKS)
def _network_of(host: str) -> str:
    """Return the network of an IPv6 host, which gRPC writes as %5B2001:db8::1%5D.

    One client may have a whole /64, so its addresses count as one.
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
    """Return the current task; raise RuntimeError if there is none."""
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("a call runs in a task")
    return task
