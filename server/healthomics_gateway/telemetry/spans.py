"""The spans of traces: their names, their attributes, and the interface to them.

Nothing here imports OpenTelemetry, an optional dependency: `tracing` and `otlp` do.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping
from typing import Any, Protocol, TypeAlias

# Names of spans. A call's span is named after its method.
CALL = "{rpc.method}"
FETCH = "fetch"
POLL = "poll"
QUEUE = "queue"
ATTEMPT = "GET /run/{id}"
TRANSLATE = "translate"
CHANGE = "watch change"
STREAM_END = "stream end"

# Names of attributes by the semantic conventions of OpenTelemetry.
AWS_REQUEST_ID = "aws.request_id"
CLOUD_REGION = "cloud.region"
ERROR_TYPE = "error.type"
HTTP_METHOD = "http.request.method"
HTTP_RESENDS = "http.request.resend_count"
HTTP_STATUS = "http.response.status_code"
RPC_METHOD = "rpc.method"
RPC_METHOD_ORIGINAL = "rpc.method_original"
RPC_STATUS = "rpc.response.status_code"
RPC_SYSTEM = "rpc.system.name"
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
URL = "url.full"
URL_TEMPLATE = "url.template"

# The gateway's own.
ATTEMPTS = "healthomics_gateway.attempts"
AWS_ERROR_CODE = "healthomics_gateway.aws_error_code"
FROM_CACHE = "healthomics_gateway.from_cache"
FROM_STORE = "healthomics_gateway.from_store"
QUEUE_KIND = "healthomics_gateway.queue.kind"
REQUEST_ID = "healthomics_gateway.request_id"
RUN_ID = "healthomics_gateway.run_id"

# Events, and their attribute.
STATE = "state"
HEARTBEAT = "heartbeat"
RUN_STATUS = "healthomics_gateway.run_status"

CALL_END = (RPC_STATUS, RUN_ID, FROM_CACHE, ATTEMPTS, ERROR_TYPE)
# All attributes that a span of each name may have.
SPANS: Mapping[str, tuple[str, ...]] = {
    CALL: (
        *(RPC_SYSTEM, RPC_METHOD, RPC_METHOD_ORIGINAL, SERVER_ADDRESS, SERVER_PORT),
        *(REQUEST_ID, FROM_STORE, *CALL_END),
    ),
    FETCH: (RUN_ID, ERROR_TYPE),
    POLL: (RUN_ID, ERROR_TYPE),
    QUEUE: (QUEUE_KIND, ERROR_TYPE),
    ATTEMPT: (
        *(HTTP_METHOD, URL, URL_TEMPLATE, SERVER_ADDRESS, SERVER_PORT, HTTP_RESENDS),
        *(CLOUD_REGION, HTTP_STATUS, AWS_REQUEST_ID, AWS_ERROR_CODE, ERROR_TYPE),
    ),
    TRANSLATE: (ERROR_TYPE,),
    CHANGE: (),
    STREAM_END: CALL_END,
}
EVENTS: Mapping[str, tuple[str, ...]] = {STATE: (RUN_STATUS,), HEARTBEAT: ()}

# gRPC's codes that are faults of the server: UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED,
# INTERNAL, UNAVAILABLE and DATA_LOSS. Other failures don't make a server's span an
# error (semantic conventions for gRPC).
FAULTS = frozenset({2, 4, 12, 13, 14, 15})
CANCELLED = "CANCELLED"  # `error.type` of what nobody waits for any more

Attributes: TypeAlias = Mapping[str, str | int | bool]
Origin: TypeAlias = Any  # the identity of a span, which others can be linked to


class Span(Protocol):
    """A span that is being recorded. Times are nanoseconds since the epoch."""

    received_at: int | None  # when the answer to the request under way was complete

    @property
    def origin(self) -> Origin:
        """The identity of the span, for links."""
        ...

    def child(
        self,
        name: str,
        attributes: Attributes | None = None,
        *,
        is_client: bool = False,
        start: int | None = None,
    ) -> Span:
        """Begin a span of the same trace, at `start` or now."""
        ...

    def link(self, origin: Origin) -> None:
        """Link the span to another one."""
        ...

    def set(self, attributes: Attributes) -> None:
        """Set attributes."""
        ...

    def event(
        self, name: str, attributes: Attributes | None = None, *, at: int | None = None
    ) -> None:
        """Add an event, at `at` or now."""
        ...

    def end(
        self, reason: str = "", *, is_fault: bool = False, at: int | None = None
    ) -> None:
        """End the span, at `at` or now, unless it has ended.

        `reason` says why the operation failed; `is_fault` sets the status of the span.
        """
        ...


class Tracer(Protocol):
    """Begins spans that aren't part of another one of this gateway."""

    def of_call(
        self, name: str, headers: Iterable[tuple[str, Any]], attributes: Attributes
    ) -> tuple[Span | None, Mapping[str, str] | None]:
        """Return the span of a call, and the ids for its log line, if there are any.

        The span is None if the call isn't sampled. `headers` may name the parent.
        """
        ...

    def root(self, name: str, attributes: Attributes) -> Span | None:
        """Return a span of a new trace, or None if it isn't sampled."""
        ...

    def flush(self, seconds: float) -> Awaitable[None]:
        """Export the spans that have ended, for at most `seconds`."""
        ...

    def close(self) -> None:
        """Stop exporting, without waiting for it."""
        ...


def shared(call: Span, fetch: Span | None, attributes: Attributes) -> Span:
    """Return the span of the fetch that a call shares, and link each to the other.

    The first call of a fetch begins its span, as a part of the call's trace.
    """
    if fetch is None:
        fetch = call.child(FETCH, attributes)
    call.link(fetch.origin)
    fetch.link(call.origin)
    return fetch
