"""The one grpc interceptor: each method's stages, composed once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from functools import partial
from types import MappingProxyType
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import Message
from grpc.aio import AbortError, ServerInterceptor, ServicerContext
from structlog.contextvars import bind_contextvars

from healthomics_gateway.context import (
    CallContext,
    Handler,
    Interceptor,
    caller_at,
    peer_at,
    request_id_of,
    running_task,
    set_current_call,
)
from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.interceptors.first_message import FirstMessages
from healthomics_gateway.interceptors.send_buffer import SendBuffer
from healthomics_gateway.interceptors.stream_writer import Writer
from healthomics_gateway.runs.source import Caller

MAX_ANSWER_BYTES = 4 * 1024 * 1024  # what stock clients receive
MAX_METHOD_TEXT = 100  # characters of an unknown method's name in the log

Pace: TypeAlias = Callable[[Caller], Awaitable[None]]


class Chain(ServerInterceptor):
    """Wraps every method in the stages of its service, outermost first.

    Requests are decoded and answers encoded inside the stages, so that a failure
    there is one of the table's too. The stages see a call at its headers: to gRPC
    every method is one whose client streams, as for any other it waits for the message.
    """

    def __init__(
        self,
        of: Mapping[str, Iterable[Interceptor]],
        *,
        of_others: Iterable[Interceptor],
        of_unknown: Iterable[Interceptor],
        arrivals: Mapping[str, FirstMessages] = MappingProxyType({}),
        arrivals_of_others: FirstMessages | None = None,
        writer: Writer | None = None,
        pace: Pace | None = None,
        listener: str = "",
    ) -> None:
        """Take stages by the method's path or the service's full name.

        The others have theirs in common, and calls of no method have theirs.

        `arrivals` bounds the calls of a service whose message hasn't come; the other
        services share `arrivals_of_others`. `writer` writes the messages of all
        streams. `pace` waits for the turn of a caller whose stream has brought a
        further message. `listener` is the address of the server that the chain is for,
        as the audit has it.
        """
        self._listener = listener
        self._of = of
        self._of_others = of_others
        self._arrivals = arrivals
        self._arrivals_of_others = arrivals_of_others or FirstMessages()
        self._writer = writer or Writer(SendBuffer())
        self._pace = pace or _at_once
        self._unknown = _composed(_refuse_unknown, of_unknown)
        self._wrapped: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
        self.accepted = 0  # calls, of any method

    async def intercept_service(
        self,
        continuation: Callable[
            [grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]
        ],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any]:
        """Give the method's handler, wrapped."""
        self.accepted += 1
        method = handler_call_details.method
        wrapped = self._wrapped.get(method)
        if wrapped is None:
            handler = await continuation(handler_call_details)
            if handler is None:
                return self._deny(method[:MAX_METHOD_TEXT])
            wrapped = self._wrapped[method] = self._wrap(method, handler)
        return wrapped

    def _wrap(self, method: str, handler: Any) -> grpc.RpcMethodHandler[Any, Any]:
        service = method.strip("/").partition("/")[0]
        stages = self._of.get(method) or self._of.get(service, self._of_others)
        arrivals = self._arrivals.get(service, self._arrivals_of_others)
        inner = (
            _streaming(handler, arrivals, self._writer, self._pace)
            if handler.response_streaming
            else _unary(handler, arrivals)
        )
        handle = _in_exchange(_composed(inner, stages), method, self._listener)
        if handler.response_streaming:
            encoded = partial(_encoded, handler)
            return grpc.stream_stream_rpc_method_handler(handle, None, encoded)
        return grpc.stream_unary_rpc_method_handler(handle)

    def _deny(self, method: str) -> grpc.RpcMethodHandler[Any, Any]:
        return grpc.stream_unary_rpc_method_handler(
            _in_exchange(self._unknown, method, self._listener)
        )


def _composed(handler: Handler, stages: Iterable[Interceptor]) -> Handler:
    for intercept in reversed(tuple(stages)):
        handler = intercept(handler)
    return handler


def _in_exchange(
    handler: Handler, method: str, listener: str
) -> Callable[..., Awaitable[bytes]]:
    async def handle(incoming: Any, rpc: ServicerContext[Any, Any]) -> bytes:
        peer = peer_at(rpc, listener)
        request_id = request_id_of(rpc)
        bind_contextvars(request_id=request_id)  # for events of what the call starts
        context = CallContext(
            rpc,
            method,
            request_id,
            peer,
            running_task(),
            listener,
            caller=caller_at(peer),
        )
        set_current_call(context)
        try:
            return await handler(incoming, context)
        except AbortError as error:
            # gRPC keeps it with the call, and its frames would keep the call: only a
            # collector could part them, and its pauses are felt in a flood.
            error.__traceback__ = None
            del incoming, rpc, context
            raise

    return handle


def _unary(handler: Any, arrivals: FirstMessages) -> Handler:
    async def handle(_incoming: Any, context: CallContext) -> bytes:
        request = await _first(handler, arrivals, context)
        answer = await handler.unary_unary(request, context.rpc)
        return _encoded(handler, answer)

    return handle


def _streaming(
    handler: Any, arrivals: FirstMessages, writer: Writer, pace: Pace
) -> Handler:
    behavior = handler.stream_stream or handler.unary_stream

    async def handle(incoming: Any, context: CallContext) -> bytes:
        if handler.request_streaming:
            request: Any = _each_decoded(handler, incoming, context, pace)
        else:
            request = await _first(handler, arrivals, context)
        async with aclosing(behavior(request, context.rpc)) as answers:
            async for answer in answers:
                try:
                    await writer.write(context, _encoded(handler, answer))
                except TimeoutError as error:
                    await answers.athrow(error)  # the method knows its reason
        return b""

    return handle


async def _first(handler: Any, arrivals: FirstMessages, context: CallContext) -> Any:
    """Return a call's request; its bytes are dropped, as a call may last."""
    body = await arrivals.message(context.task, context.rpc.read)
    context.has_message = True
    return _decoded(handler, body)


async def _each_decoded(
    handler: Any, bodies: AsyncIterator[bytes], context: CallContext, pace: Pace
) -> AsyncIterator[Any]:
    """Yield a stream's requests, each at its caller's turn: a stream may last."""
    async for body in bodies:
        context.has_message = True
        await pace(context.caller)
        yield _decoded(handler, body)


def _decoded(handler: Any, body: bytes) -> Any:
    try:
        request = handler.request_deserializer(body)
    except Exception:  # noqa: BLE001  # whatever protobuf finds, the bytes are bad
        raise GatewayError(Reason.MALFORMED_REQUEST) from None
    if isinstance(request, Message):
        request.DiscardUnknownFields()  # no method reads them, and they may be large
    return request


def _encoded(handler: Any, answer: Any) -> bytes:
    """Encode an answer, unless its method has done so for many callers alike."""
    encoded: bytes = (
        answer if isinstance(answer, bytes) else handler.response_serializer(answer)
    )
    if len(encoded) > MAX_ANSWER_BYTES:
        raise GatewayError(Reason.RESPONSE_TOO_LARGE)
    return encoded


async def _at_once(_who: Caller) -> None:
    """Wait for nothing."""


async def _refuse_unknown(_incoming: Any, _context: CallContext) -> bytes:
    raise GatewayError(Reason.METHOD_UNKNOWN)
