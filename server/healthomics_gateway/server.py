"""The gRPC server: its options, and the stages that each method's calls pass."""

from __future__ import annotations

import resource
from collections.abc import Callable, Sequence
from typing import TypeAlias

import grpc

from healthomics_gateway.access import ANONYMOUS, Policy, Rule
from healthomics_gateway.health import HEALTH, SERVICE
from healthomics_gateway.interceptors.admit import MAX_WAITING, Admission, Arrivals
from healthomics_gateway.interceptors.authenticate import (
    ByCertificate,
    ByToken,
    authenticate,
)
from healthomics_gateway.interceptors.authorize import authorize
from healthomics_gateway.interceptors.chain import Chain, PeerOf
from healthomics_gateway.interceptors.drain import Drain
from healthomics_gateway.interceptors.exchange import Stage
from healthomics_gateway.interceptors.expire import Expiry
from healthomics_gateway.interceptors.limit import Limits
from healthomics_gateway.interceptors.refuse import MAX_REJECTIONS, Refusals
from healthomics_gateway.interceptors.unread import Unread
from healthomics_gateway.interceptors.write import Writer
from healthomics_gateway.keys import MAX_WAITING_FOR_KEYS
from healthomics_gateway.reflection import REFLECTION_V1, REFLECTION_V1ALPHA

# Of health and reflection, in all and of one connection: a client library keeps one
# health stream for each of its connections.
MAX_STANDARD = 1024
MAX_STANDARD_PER_CONNECTION = 32
# The core refuses without details whatever is beyond this many times the sum of all
# bounds above it. It never does so before one of them has.
HEADROOM = 2
GRACE_SECONDS = 60.0  # for a watch's end, beyond the longest
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
    # Of calls that wait for the event loop: beyond 1,000 gRPC would cancel some, of
    # whichever connection, and beyond 3,000 all.
    ("grpc.server.max_pending_requests", 8192),
    ("grpc.server.max_pending_requests_hard_limit", 8192),
    ("grpc.max_receive_message_length", 65_536),  # of a request, decompressed
    ("grpc.max_metadata_size", 8192),
    ("grpc.absolute_max_metadata_size", 8192),  # as above: between them it is random
    ("grpc.server_handshake_timeout_ms", 5000),
    ("grpc.max_connection_idle_ms", 120_000),
    ("grpc.max_connection_age_ms", 300_000),
    ("grpc.keepalive_time_ms", 60_000),  # these four close a peer gone silent
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.ping_timeout_ms", 20_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
)

# Gives the stages that find out who calls a method, by the rules' name of it, and
# whether that caller may.
Guard: TypeAlias = Callable[[str], Sequence[Stage]]


def guard_of(
    rules: Sequence[Rule],
    *,
    by_certificate: ByCertificate | None,
    by_token: ByToken | None,
    expiry: Expiry,
) -> Guard:
    """Make the stages that turn away who may not call; none where everyone may."""
    if not (rules or by_certificate or by_token):
        return lambda _: ()
    policy = Policy(rules)
    limits = Limits()
    who = authenticate(
        by_certificate=by_certificate,
        by_token=by_token,
        lets_in_anonymous=policy.knows(ANONYMOUS) if rules else by_token is None,
    )

    def stages(method: str) -> Sequence[Stage]:
        limit = limits.watches if method == "WatchRun" else limits.calls
        if method == "GetRun":  # the one that ends by a deadline
            return who, authorize(policy, method), limit
        return who, expiry.stage, authorize(policy, method), limit

    return stages


def make_chain(
    *,
    outer: Sequence[Stage],
    guard: Guard,
    admission: Admission,
    watching: Admission,
    drain: Drain,
    open_services: frozenset[str],
    max_waiting: int,
    peer_of: PeerOf = lambda context: context.peer(),
) -> Chain:
    """Compose each method's stages: `outer` about all, `guard` about what isn't open.

    The order is that of docs/design.md, "Overload order". `guard` comes before any
    place is taken, so that calls without identity can't use up the places of calls
    that have one. The places of the standard services are apart for the same reason:
    they may be open to callers without identity. At most `max_waiting` calls may wait
    for their request message.
    """
    standard = Admission(
        max_in_flight=MAX_STANDARD, max_per_connection=MAX_STANDARD_PER_CONNECTION
    )
    open_ = (*outer[1:], standard.stage)  # no audit of what is open
    # Outside all places: a rejection that waits for its turn must hold none.
    outer = (*outer, Refusals().stage)
    unread = Unread()  # of calls and streams alike
    of: dict[str, Sequence[Stage]] = {
        SERVICE: (
            # The places come after `guard`: they are shared by identity.
            *(*outer, *guard("GetRun"), admission.stage),
            # Inside the places: what is refused for lack of one is no work to drain.
            *(unread.stage, drain.stage),
        ),
        WATCH_RUN: (
            *(*outer, *guard("WatchRun"), watching.stage),
            drain.lasting,
        ),
    }
    for service, name in STANDARD.items():
        if name not in open_services:
            of[service] = (*outer, *guard(name), standard.stage)
    return Chain(
        of,
        of_others=open_,
        of_unknown=outer,
        arrivals={SERVICE: Arrivals(max_waiting=min(MAX_WAITING, max_waiting))},
        writer=Writer(unread),
        peer_of=peer_of,
    )


def make_server(
    chain: Chain,
    *,
    options: Sequence[tuple[str, int]],
    max_in_flight: int,
    max_open: int,
    max_stream_seconds: float,
) -> grpc.aio.Server:
    """Make a server without services, for so many calls and watches inside."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    connections = ("grpc.max_allowed_incoming_connections", files // 2)
    # A connection that has grown old still carries the streams that it has.
    grace_seconds = max_stream_seconds + GRACE_SECONDS
    grace = ("grpc.max_connection_age_grace_ms", round(grace_seconds * 1000))
    return grpc.aio.server(
        interceptors=(chain,),
        options=(grace, *options, connections),
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
