"""Records a server span for each call, by the semantic conventions for gRPC."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import grpc

from healthomics_gateway.context import CallContext, Handler, Interceptor
from healthomics_gateway.telemetry.message_spans import MessageSpans
from healthomics_gateway.telemetry.spans import (
    ATTEMPTS,
    FAULTS,
    FROM_CACHE,
    FROM_STORE,
    REQUEST_ID,
    RPC_METHOD,
    RPC_METHOD_ORIGINAL,
    RPC_STATUS,
    RPC_SYSTEM,
    RUN_ID,
    Attributes,
    Tracer,
)

GRPC = "grpc"
OTHER = "_OTHER"  # instead of the name of a method that doesn't exist


def tracing(
    tracer: Tracer, *, listener: Attributes, is_known: bool = True
) -> Interceptor:
    """Trace each call that is sampled; a call that isn't costs next to nothing.

    `listener` are the attributes of the server's address. `is_known` is False for calls
    to methods that don't exist.
    """
    methods = _Methods(listener, is_known=is_known)

    def intercept(proceed: Handler) -> Handler:
        def handle(incoming: Any, call: CallContext) -> Awaitable[bytes]:
            name, attributes = methods[call.method]
            span, call.trace_ids = tracer.of_call(name, call.headers, attributes)
            if span is None:
                return proceed(incoming, call)
            span.set({REQUEST_ID: call.request_id})
            if not is_known:
                span.set({RPC_METHOD_ORIGINAL: call.method.removeprefix("/")})
            call.span = span
            call.messages = messages = MessageSpans(span)
            return _traced(proceed, incoming, call, messages)

        return handle

    return intercept


class _Methods(dict[str, tuple[str, Attributes]]):
    """The name and the attributes of the span of each method, by its path."""

    def __init__(self, listener: Attributes, *, is_known: bool) -> None:
        super().__init__()
        self._fixed = {RPC_SYSTEM: GRPC, **listener}
        self._is_known = is_known

    def __missing__(self, path: str) -> tuple[str, Attributes]:
        if not self._is_known:  # one isn't kept, as clients choose the paths
            return GRPC, {**self._fixed, RPC_METHOD: OTHER}
        name = path.removeprefix("/")
        found = self[path] = name, {**self._fixed, RPC_METHOD: name}
        return found


async def _traced(
    proceed: Handler, incoming: Any, call: CallContext, messages: MessageSpans
) -> bytes:
    try:
        return await proceed(incoming, call)
    finally:
        span = messages.last()
        span.set(_facts(call))
        is_error = call.code is not grpc.StatusCode.OK
        reason = (call.reason or call.code.name) if is_error else ""
        span.end(reason, is_fault=call.code.value[0] in FAULTS)


def _facts(call: CallContext) -> Attributes:
    """Return what is known at the end of a call."""
    facts: dict[str, str | int | bool] = {
        RPC_STATUS: call.code.name,
        FROM_CACHE: call.is_from_cache,
    }
    if call.is_from_store:
        facts[FROM_STORE] = True
    if call.run_id:
        facts[RUN_ID] = call.run_id
    if call.upstream.attempts:
        facts[ATTEMPTS] = call.upstream.attempts
    return facts
