"""The gRPC server: its options, and the stages that each method's calls pass."""

from __future__ import annotations

import resource
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import grpc

from healthomics_gateway.auth.keyring import MAX_WAITING_FOR_KEYS
from healthomics_gateway.auth.policy import ANONYMOUS, Policy, Rule
from healthomics_gateway.context import Stage
from healthomics_gateway.interceptors.authenticate import (
    ByCertificate,
    ByToken,
    authenticate,
)
from healthomics_gateway.interceptors.authorize import authorize
from healthomics_gateway.interceptors.caller_limits import Limits
from healthomics_gateway.interceptors.chain import Chain
from healthomics_gateway.interceptors.concurrency import (
    MAX_WAITING,
    Admission,
    Arrivals,
)
from healthomics_gateway.interceptors.credential_expiry import Expiry
from healthomics_gateway.interceptors.drain import Drain
from healthomics_gateway.interceptors.send_buffer import Unread
from healthomics_gateway.interceptors.stream_writer import Writer
from healthomics_gateway.interceptors.tarpit import MAX_REJECTIONS, Refusals
from healthomics_gateway.services.health import HEALTH, SERVICE
from healthomics_gateway.services.reflection import REFLECTION_V1, REFLECTION_V1ALPHA

# Of health and reflection, in all and of one connection: a client library keeps one
# health stream for each of its connections.
MAX_STANDARD = 1024
MAX_STANDARD_PER_CONNECTION = 32
# The core refuses without details whatever is beyond this many times the sum of all
# bounds above it. It never does so before one of them has.
HEADROOM = 2
GRACE_SECONDS = 60.0  # for a watch's end, beyond the longest
# Open files: what the gateway itself opens at most (the interpreter, the event loop,
# listeners, the admin pages, threads that ask STS or read files), each attempt at
# HealthOmics has one more, and what is left of all is for callers' connections.
OWN_FILES = 96
MIN_CONNECTIONS = 16
MAX_OPTION = 2**31 - 1  # the largest number that an option of gRPC's can have
WATCH_RUN = f"/{SERVICE}/WatchRun"
STANDARD = {  # services, as the rules call them
    HEALTH: "Health",
    REFLECTION_V1: "Reflection",
    REFLECTION_V1ALPHA: "Reflection",
}
OPTIONS = (
    ("grpc.so_reuseport", 0),  # else a second process binds the same port unnoticed
    # Enough for 300 calls sent at once on one connection; without a limit one
    # connection's rapid resets cancel the calls of others.
    ("grpc.max_concurrent_streams", 500),
    ("grpc.max_receive_message_length", 65_536),  # of a request, decompressed
    # As gRPC's `max_metadata_size`: between the two a call is refused at random.
    ("grpc.absolute_max_metadata_size", 8192),
    ("grpc.server_handshake_timeout_ms", 5000),
    ("grpc.max_connection_idle_ms", 120_000),
    ("grpc.max_connection_age_ms", 300_000),
    ("grpc.keepalive_time_ms", 60_000),  # these three close a peer gone silent
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.ping_timeout_ms", 20_000),
    # Clients may ping so often; gRPC's default, 5 minutes, is longer than what they do.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
)

# Gives the stages that find out who calls a method, by the rules' name of it, and
# whether that caller may.
Guard: TypeAlias = Callable[[str], Sequence[Stage]]


def _standard_admission() -> Admission:
    return Admission(
        max_in_flight=MAX_STANDARD, max_per_connection=MAX_STANDARD_PER_CONNECTION
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What bounds the calls of all listeners together."""

    admission: Admission
    watching: Admission
    drain: Drain
    arrivals: Arrivals  # of RunService
    arrivals_of_others: Arrivals = field(default_factory=Arrivals)
    standard: Admission = field(default_factory=_standard_admission)
    refusals: Refusals = field(default_factory=Refusals)
    messages: Refusals = field(default_factory=Refusals)  # of clients' streams
    unread: Unread  # of calls and streams alike
    writer: Writer


class Guards:
    """Makes the stages that turn away callers who may not call, for each listener.

    The rules, and what each caller may have for itself, are the same on all of them.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        *,
        by_token: ByToken | None,
        expiry: Expiry,
        asks_for_certificates: bool,
    ) -> None:
        """Take what finds the identity in a token, None if tokens aren't read.

        Once tokens are read or some listener asks for certificates, a caller without
        identity needs a rule on every listener.
        """
        self._policy = Policy(rules)
        self._limits = Limits()
        self._by_token = by_token
        self._expiry = expiry
        self._is_on = bool(rules or by_token or asks_for_certificates)
        self._lets_in_anonymous = (
            self._policy.knows(ANONYMOUS)
            if rules
            else not (by_token or asks_for_certificates)
        )

    def at(self, by_connection: ByCertificate | None) -> Guard:
        """Return the stages of each method at one listener; none if all may call."""
        if not (self._is_on or by_connection):
            return lambda _: ()
        who = authenticate(
            by_certificate=by_connection,
            by_token=self._by_token,
            lets_in_anonymous=self._lets_in_anonymous,
        )

        def stages(method: str) -> Sequence[Stage]:
            limits = self._limits
            limit = limits.watches if method == "WatchRun" else limits.calls
            allow = authorize(self._policy, method)
            if method == "GetRun":  # the one that ends by a deadline
                return who, allow, limit
            return who, self._expiry.stage, allow, limit

        return stages


def make_chain(
    *,
    outer: Sequence[Stage],
    guard: Guard,
    bounds: Bounds,
    open_services: frozenset[str],
    listener: str,
) -> Chain:
    """Compose each method's stages at one listener.

    `outer` is about all calls, `guard` about what isn't open. The order is that of
    docs/design.md, "Overload order". `guard` comes before any place is taken, so that
    calls without identity can't use up the places of calls that have one. The places of
    the standard services are apart for the same reason: they may be open to callers
    without identity.
    """
    standard = bounds.standard.stage
    open_ = (*outer[1:], standard)  # no audit of what is open
    # Outside all places: a rejection that waits for its turn must hold none.
    outer = (*outer, bounds.refusals.stage)
    of: dict[str, Sequence[Stage]] = {
        SERVICE: (
            # The places come after `guard`: they are shared by identity.
            *(*outer, *guard("GetRun"), bounds.admission.stage),
            # Inside the places: what is refused for lack of one is no work to drain.
            *(bounds.unread.stage, bounds.drain.stage),
        ),
        WATCH_RUN: (
            *(*outer, *guard("WatchRun"), bounds.watching.stage),
            bounds.drain.lasting,
        ),
    }
    for service, name in STANDARD.items():
        if name not in open_services:
            of[service] = (*outer, *guard(name), standard)
    return Chain(
        of,
        of_others=open_,
        of_unknown=outer,
        arrivals={SERVICE: bounds.arrivals},
        arrivals_of_others=bounds.arrivals_of_others,
        writer=bounds.writer,
        pace=bounds.messages.turn,
        listener=listener,
    )


def make_server(
    chain: Chain,
    *,
    options: Sequence[tuple[str, int]],
    max_in_flight: int,
    max_open: int,
    max_stream_seconds: float,
    connections: int,
) -> grpc.aio.Server:
    """Make a server without services, for so many calls and watches inside.

    Each address that it is bound to may have so many `connections`.
    """
    most_connections = ("grpc.max_allowed_incoming_connections", connections)
    # A connection that has grown old still carries the streams that it has.
    grace_seconds = max_stream_seconds + GRACE_SECONDS
    grace = ("grpc.max_connection_age_grace_ms", round(grace_seconds * 1000))
    return grpc.aio.server(
        interceptors=(chain,),
        options=(grace, *options, most_connections),
        maximum_concurrent_rpcs=HEADROOM
        * (
            max_in_flight
            + max_open
            + 2 * MAX_WAITING  # for their message, of RunService and of the others
            + MAX_STANDARD
            + MAX_REJECTIONS
            + MAX_WAITING_FOR_KEYS
        ),
    )


def files_fault(max_concurrent: int, files: int | None = None) -> str | None:
    """Return what is wrong with the limit on open files, None if nothing is.

    `max_concurrent` attempts have a file each. `files` is the limit, that of this
    process by default.
    """
    if files is None:
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = OWN_FILES + max_concurrent + MIN_CONNECTIONS
    if files == resource.RLIM_INFINITY or files >= needed:
        return None
    return (
        f"limit on open files {files}: at least {needed} are needed with"
        f" upstream.max_concurrent {max_concurrent}, better 1024 more; set it with"
        " ulimit -n, or with LimitNOFILE= in a unit of systemd"
    )


def max_connections(max_concurrent: int, addresses: int, files: int) -> int:
    """Return how many connections each address may have, by the limit on open files.

    All together have half of the files, or less if HealthOmics and the gateway itself
    need more than the other half.
    """
    if files == resource.RLIM_INFINITY:
        return MAX_OPTION
    left = min(files // 2, files - OWN_FILES - max_concurrent)
    return min(max(1, left // addresses), MAX_OPTION)
