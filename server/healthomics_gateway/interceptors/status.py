"""Converts every failure to a status of the error table."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import grpc
import structlog
from grpc.aio import AbortError, InternalError

from healthomics_gateway.context import CallContext, Handler, Interceptor, Trailer
from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.errors.status import status_of

CODES = {code.value[0]: code for code in grpc.StatusCode}  # by google.rpc.Code

_log = structlog.get_logger("errors")


def status(*, debug: bool) -> Interceptor:
    """Set the status of each call that fails; with `debug` it has AWS's message.

    It is sent after the interceptors outside of this one, so that no answered call
    lacks its line in the audit log.
    """

    def intercept(proceed: Handler) -> Handler:
        async def handle(incoming: Any, call: CallContext) -> bytes:
            try:
                return await proceed(incoming, call)
            except GatewayError as error:
                # Its traceback refers to this frame: a cycle for the garbage collector.
                failure = error.with_traceback(None)
                failure.__context__ = None  # which has a traceback too
            except (AbortError, asyncio.CancelledError):
                raise
            except InternalError:  # gRPC raises it for a write to a client that is gone
                raise asyncio.CancelledError from None
            except Exception as error:  # noqa: BLE001  # a bug is logged here, and no detail of it is sent
                failure = _of_exception(error, call)
            _set_status(failure, call, debug=debug)
            return b""

        return handle

    return intercept


def _of_exception(error: Exception, call: CallContext) -> GatewayError:
    """Log an unexpected exception, and return GATEWAY_INTERNAL."""
    _log.error(
        "bug",
        method=call.method,
        request_id=call.request_id,
        exc_info=error,
    )
    return GatewayError(Reason.GATEWAY_INTERNAL)


def _set_status(error: GatewayError, call: CallContext, *, debug: bool) -> None:
    call.error = error
    status = status_of(
        error,
        metadata=call.metadata,
        request_id=call.request_id,
        debug=debug and not call.hides_upstream,
    )
    call.code = CODES[status.code]
    call.reason = error.reason.name
    trailers: list[Trailer] = [
        *call.trailing_ids(),
        ("grpc-status-details-bin", status.SerializeToString()),
    ]
    if error.pushback_ms is not None:
        trailers.append(("grpc-retry-pushback-ms", str(error.pushback_ms)))
    call.abort = partial(
        call.rpc.abort, call.code, status.message, trailing_metadata=tuple(trailers)
    )
