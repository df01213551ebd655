"""The innermost handlers, which decode requests, call a method, and encode its answers.

They run inside the interceptors, so that a failure to decode or encode also ends in an
error that docs/guide/errors.md lists.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeAlias

from google.protobuf.message import Message

from healthomics_gateway.context import CallContext, Handler
from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.interceptors.first_message import FirstMessages
from healthomics_gateway.interceptors.stream_writer import Writer
from healthomics_gateway.runs.source import Caller
from healthomics_gateway.telemetry.metrics.parts import Count, MethodMetrics

MAX_ANSWER_BYTES = 4 * 1024 * 1024  # the most that stock clients accept

Pace: TypeAlias = Callable[[Caller], Awaitable[None]]


def unary_handler(
    handler: Any, first_messages: FirstMessages, metrics: MethodMetrics
) -> Handler:
    """Return the innermost handler of a unary method: it decodes, calls and encodes."""

    async def handle(_incoming: Any, call: CallContext) -> bytes:
        call.headers = ()
        request = await _first(handler, first_messages, call, metrics.received)
        answer = await handler.unary_unary(request, call.rpc)
        return encoded_answer(handler, answer)

    return handle


def stream_handler(
    handler: Any,
    first_messages: FirstMessages,
    metrics: MethodMetrics,
    *,
    writer: Writer,
    pace: Pace,
) -> Handler:
    """Return the innermost handler of a method with a stream of responses."""
    received, sent = metrics.received, metrics.sent
    behavior = handler.stream_stream or handler.unary_stream

    async def handle(incoming: Any, call: CallContext) -> bytes:
        call.headers = ()
        if handler.request_streaming:
            request: Any = _each_decoded(handler, incoming, call, pace, received)
        else:
            request = await _first(handler, first_messages, call, received)
        async with aclosing(behavior(request, call.rpc)) as answers:
            async for answer in answers:
                try:
                    await writer.write(call, encoded_answer(handler, answer))
                except TimeoutError as error:
                    await answers.athrow(error)  # the method raises its own error
                else:
                    sent.inc()
        return b""

    return handle


async def _first(
    handler: Any, first_messages: FirstMessages, call: CallContext, received: Count
) -> Any:
    """Return a call's request; its bytes are freed, as a call may last long."""
    body = await first_messages.message(call.task, call.rpc.read)
    call.has_message = True
    if isinstance(body, bytes):  # not gRPC's EOF, if the client has sent none
        received.inc()
    return _decoded(handler, body)


async def _each_decoded(
    handler: Any,
    bodies: AsyncIterator[bytes],
    call: CallContext,
    pace: Pace,
    received: Count,
) -> AsyncIterator[Any]:
    """Yield the requests of a stream, each at its caller's turn."""
    async for body in bodies:
        call.has_message = True
        received.inc()
        await pace(call.caller)
        yield _decoded(handler, body)


def _decoded(handler: Any, body: bytes) -> Any:
    try:
        request = handler.request_deserializer(body)
    except Exception:  # noqa: BLE001  # a client's bytes must not show as a bug, whatever they cause
        raise GatewayError(Reason.MALFORMED_REQUEST) from None
    if isinstance(request, Message):
        request.DiscardUnknownFields()  # they aren't used and may be large
    return request


def encoded_answer(handler: Any, answer: Any) -> bytes:
    """Return an answer's bytes; a method may have encoded it once for many callers."""
    encoded: bytes = (
        answer if isinstance(answer, bytes) else handler.response_serializer(answer)
    )
    if len(encoded) > MAX_ANSWER_BYTES:
        raise GatewayError(Reason.RESPONSE_TOO_LARGE)
    return encoded
