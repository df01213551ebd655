"""The one interceptor that grpc knows: it composes the others once per method."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import grpc
from grpc.aio import AbortError, ServerInterceptor, ServicerContext
from structlog.contextvars import bind_contextvars

from healthomics_gateway.context import (
    CallContext,
    Handler,
    Interceptor,
    caller_at,
    headers_of,
    peer_at,
    request_id_of,
    running_task,
    set_current_call,
)
from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.interceptors.first_message import FirstMessages
from healthomics_gateway.interceptors.method_handlers import (
    Pace,
    encoded_answer,
    stream_handler,
    unary_handler,
)
from healthomics_gateway.interceptors.metrics import Measure, Measured
from healthomics_gateway.interceptors.send_buffer import SendBuffer
from healthomics_gateway.interceptors.stream_writer import Writer
from healthomics_gateway.runs.source import Caller

MAX_METHOD_TEXT = 100  # characters of an unknown method's name in the log
# In metrics, the names of methods that don't exist, whatever a client calls them.
UNKNOWN_SERVICE = "unknown"
UNKNOWN = f"/{UNKNOWN_SERVICE}/unknown"
UNARY = "unary"
# The kinds of methods in metrics, by whether requests and responses are streams.
KINDS = {
    (False, False): UNARY,
    (True, False): "client_stream",
    (False, True): "server_stream",
    (True, True): "bidi_stream",
}


class Chain(ServerInterceptor):
    """Wraps every method in the interceptors of its service, outermost first.

    Requests are decoded and answers encoded inside the interceptors, so that a failure
    there also ends in an error of the table. The interceptors run as soon as a call's
    headers arrive: every method is registered as client streaming, because for any
    other kind gRPC waits for the message first.
    """

    def __init__(
        self,
        of: Mapping[str, Iterable[Interceptor]],
        *,
        of_others: Iterable[Interceptor],
        of_unknown: Iterable[Interceptor],
        first_messages: Mapping[str, FirstMessages] = MappingProxyType({}),
        first_messages_of_others: FirstMessages | None = None,
        writer: Writer | None = None,
        pace: Pace | None = None,
        measure: Measure = lambda *_: Measured(),
        listener: str = "",
    ) -> None:
        """Create a chain from interceptors by method path or full service name.

        * `of_others` are the interceptors of all other methods.
        * `of_unknown` are those of calls to methods that don't exist.
        * `first_messages` limits, by service, the calls that wait for their request
          message; all other services share `first_messages_of_others`.
        * `writer` writes the messages of all streams.
        * `pace` delays each message of a client's stream until its caller's turn.
        * `measure` returns how a method is measured, from its path and its kind.
        * `listener` is the server's address, for the audit log.
        """
        self._listener = listener
        self._of = of
        self._of_others = of_others
        self._first_messages = first_messages
        self._first_messages_of_others = first_messages_of_others or FirstMessages()
        self._writer = writer or Writer(SendBuffer())
        self._pace = pace or _no_wait
        self._measure = measure
        measured = measure(UNKNOWN, UNARY).interceptors
        self._unknown = _composed(_reject_unknown, (*measured, *of_unknown))
        self._wrapped: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
        self._accepted = 0

    def accepted(self) -> int:
        """Return the number of calls that have arrived, of any method."""
        return self._accepted

    async def intercept_service(
        self,
        continuation: Callable[
            [grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]
        ],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any]:
        """Return the method's handler, wrapped in its interceptors."""
        self._accepted += 1
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
        interceptors = self._of.get(method) or self._of.get(service, self._of_others)
        first_messages = self._first_messages.get(
            service, self._first_messages_of_others
        )
        is_stream = handler.response_streaming
        measured = self._measure(method, KINDS[handler.request_streaming, is_stream])
        inner = (
            stream_handler(
                handler,
                first_messages,
                measured.metrics,
                writer=self._writer,
                pace=self._pace,
            )
            if is_stream
            else unary_handler(handler, first_messages, measured.metrics)
        )
        composed = _composed(inner, (*measured.interceptors, *interceptors))
        handle = _with_context(composed, method, self._listener)
        if is_stream:
            encode = partial(encoded_answer, handler)
            return grpc.stream_stream_rpc_method_handler(handle, None, encode)
        return grpc.stream_unary_rpc_method_handler(handle)

    def _deny(self, method: str) -> grpc.RpcMethodHandler[Any, Any]:
        return grpc.stream_unary_rpc_method_handler(
            _with_context(self._unknown, method, self._listener)
        )


def _composed(handler: Handler, interceptors: Iterable[Interceptor]) -> Handler:
    for intercept in reversed(tuple(interceptors)):
        handler = intercept(handler)
    return handler


def _with_context(
    handler: Handler, method: str, listener: str
) -> Callable[..., Awaitable[bytes]]:
    async def handle(incoming: Any, rpc: ServicerContext[Any, Any]) -> bytes:
        peer = peer_at(rpc, listener)
        headers = headers_of(rpc)
        request_id = request_id_of(headers)
        bind_contextvars(request_id=request_id)  # for events of its tasks
        call = CallContext(
            rpc,
            method,
            request_id,
            peer,
            running_task(),
            headers,
            listener,
            caller=caller_at(peer),
        )
        set_current_call(call)
        try:
            answer = await handler(incoming, call)
            if call.abort:
                await call.abort()
        except AbortError as error:
            # gRPC keeps the error with the call, and the error's frames would keep the
            # call: a cycle that only the garbage collector frees, with long pauses when
            # many calls are rejected.
            error.__traceback__ = None
            del incoming, rpc, call
            raise
        return answer

    return handle


async def _no_wait(_caller: Caller) -> None:
    """Return at once."""


async def _reject_unknown(_incoming: Any, _call: CallContext) -> bytes:
    raise GatewayError(Reason.METHOD_UNKNOWN)
