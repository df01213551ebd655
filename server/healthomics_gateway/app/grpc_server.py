"""The gRPC server: its options, and the stages that each method's calls pass."""

from __future__ import annotations

import resource
from collections.abc import Sequence

import grpc

from healthomics_gateway.app.interceptor_stack import MAX_STANDARD
from healthomics_gateway.auth.keyring import MAX_WAITING_FOR_KEYS
from healthomics_gateway.interceptors.chain import Chain
from healthomics_gateway.interceptors.first_message import MAX_WAITING
from healthomics_gateway.interceptors.tarpit import MAX_REJECTIONS

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
