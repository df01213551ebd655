"""The gRPC server: its options and its limit on concurrent calls."""

from __future__ import annotations

from collections.abc import Sequence

import grpc

from healthomics_gateway.app.interceptor_stack import MAX_STANDARD
from healthomics_gateway.auth.keyring import MAX_WAITING_FOR_KEYS
from healthomics_gateway.interceptors.chain import Chain
from healthomics_gateway.interceptors.first_message import MAX_WAITING
from healthomics_gateway.interceptors.tarpit import MAX_REJECTIONS

# gRPC refuses calls, without details, beyond this multiple of the sum of the gateway's
# own limits. So one of these limits always refuses first.
HEADROOM = 2
GRACE_SECONDS = 60.0  # for a watch to end after its longest time
_COMMON = (
    # Enough for 300 calls at once on one connection. Without a limit, rapid resets on
    # one connection cancel the calls of others.
    ("grpc.max_concurrent_streams", 500),
    ("grpc.max_receive_message_length", 65_536),  # of a request, decompressed
    # Equal to gRPC's `max_metadata_size`: calls between the two are refused at random.
    ("grpc.absolute_max_metadata_size", 8192),
    ("grpc.server_handshake_timeout_ms", 5000),
    ("grpc.max_connection_idle_ms", 120_000),
    ("grpc.max_connection_age_ms", 300_000),
    # These three close the connection of a dead peer.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.ping_timeout_ms", 20_000),
    # How often clients may ping; many ping more often than gRPC's default, 5 minutes.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
)
# Otherwise a second process could bind the same port without an error.
OPTIONS = (("grpc.so_reuseport", 0), *_COMMON)
OF_WORKERS = (("grpc.so_reuseport", 1), *_COMMON)  # which share their ports


def make_server(
    chain: Chain,
    *,
    options: Sequence[tuple[str, int]],
    max_in_flight: int,
    max_open: int,
    max_stream_seconds: float,
    connections: int,
) -> grpc.aio.Server:
    """Create a server without services.

    It takes `max_in_flight` calls and `max_open` watches at a time, and `connections`
    on each address that it is bound to.
    """
    most_connections = ("grpc.max_allowed_incoming_connections", connections)
    # A connection that has reached its maximum age keeps its streams.
    grace_seconds = max_stream_seconds + GRACE_SECONDS
    grace = ("grpc.max_connection_age_grace_ms", round(grace_seconds * 1000))
    return grpc.aio.server(
        interceptors=(chain,),
        options=(grace, *options, most_connections),
        maximum_concurrent_rpcs=HEADROOM
        * (
            max_in_flight
            + max_open
            + 2 * MAX_WAITING  # without a message: RunService, and the other services
            + MAX_STANDARD
            + MAX_REJECTIONS
            + MAX_WAITING_FOR_KEYS
        ),
    )
