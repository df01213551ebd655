"""The calls of each gRPC method, as other gRPC servers measure them."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram

from healthomics_gateway.telemetry.metrics.parts import MethodMetrics

# Seconds: a cached answer takes 1 ms, a call that queues at most 30 s by default.
SECONDS = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1),
    *(0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
METHOD = ("grpc_type", "grpc_service", "grpc_method")
# The codes as other gRPC servers report them, by their names in Python.
CODES: Mapping[str, str] = {
    "OK": "OK",
    "CANCELLED": "Canceled",
    "UNKNOWN": "Unknown",
    "INVALID_ARGUMENT": "InvalidArgument",
    "DEADLINE_EXCEEDED": "DeadlineExceeded",
    "NOT_FOUND": "NotFound",
    "ALREADY_EXISTS": "AlreadyExists",
    "PERMISSION_DENIED": "PermissionDenied",
    "RESOURCE_EXHAUSTED": "ResourceExhausted",
    "FAILED_PRECONDITION": "FailedPrecondition",
    "ABORTED": "Aborted",
    "OUT_OF_RANGE": "OutOfRange",
    "UNIMPLEMENTED": "Unimplemented",
    "INTERNAL": "Internal",
    "UNAVAILABLE": "Unavailable",
    "DATA_LOSS": "DataLoss",
    "UNAUTHENTICATED": "Unauthenticated",
}


class CallMetrics:
    """The calls of each gRPC method, as other gRPC servers measure them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register the metrics, without any method yet."""

        def counter(name: str, text: str, *more: str) -> Counter:
            labels = (*METHOD, *more)
            return Counter(f"grpc_server_{name}", text, labels, registry=registry)

        self._started = counter("started", "Calls that have begun.")
        self._handled = counter("handled", "Calls that have ended.", "grpc_code")
        self._received = counter("msg_received", "Messages received from clients.")
        self._sent = counter("msg_sent", "Messages sent to clients.")
        self._seconds = Histogram(
            "grpc_server_handling_seconds",
            "Time from a call's headers to its end.",
            METHOD,
            buckets=SECONDS,
            registry=registry,
        )

    def of(self, service: str, method: str, kind: str) -> MethodMetrics:
        """Return the metrics of a method; all of its series exist from now on.

        `kind` is `unary`, `client_stream`, `server_stream` or `bidi_stream`.
        """
        labels = (kind, service, method)
        return MethodMetrics(
            started=self._started.labels(*labels),
            handled={
                name: self._handled.labels(*labels, code)
                for name, code in CODES.items()
            },
            seconds=self._seconds.labels(*labels),
            received=self._received.labels(*labels),
            sent=self._sent.labels(*labels),
        )
