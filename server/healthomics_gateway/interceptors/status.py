"""Every failure becomes one status of the table, its trailers sent in one go."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import structlog
from grpc.aio import AbortError, InternalError

from healthomics_gateway.context import (
    Exchange,
    Handler,
    Stage,
    trailing_ids,
)
from healthomics_gateway.errors.reasons import GatewayError, Reason, facts, status_of

CODES = {code.value[0]: code for code in grpc.StatusCode}  # by google.rpc.Code

_log = structlog.get_logger("errors")


def errors(*, debug: bool) -> Stage:
    """Answer failures; with `debug` AWS's own message rides along."""

    def stage(proceed: Handler) -> Handler:
        async def handle(incoming: Any, exchange: Exchange) -> bytes:
            try:
                return await proceed(incoming, exchange)
            except GatewayError as error:
                # Its traceback holds this frame: without it nothing needs a collector.
                failure = error.with_traceback(None)
                failure.__context__ = None  # has a traceback of its own
            except (AbortError, asyncio.CancelledError):
                raise
            except InternalError:  # gRPC's word for a write to a client that has left
                raise asyncio.CancelledError from None
            except Exception as error:  # noqa: BLE001  # no trace of it may leave
                failure = _of_exception(error, exchange)
            return await _abort(failure, exchange, debug=debug)

        return handle

    return stage


def _of_exception(error: Exception, exchange: Exchange) -> GatewayError:
    """Log an exception that no layer expected, and return GATEWAY_INTERNAL."""
    _log.error(
        "bug",
        method=exchange.method,
        request_id=exchange.request_id,
        exc_info=error,
    )
    return GatewayError(Reason.GATEWAY_INTERNAL)


async def _abort(error: GatewayError, exchange: Exchange, *, debug: bool) -> bytes:
    exchange.facts = {**facts.get(), **error.metadata}  # the log's
    told = exchange.facts
    if error.reason is Reason.CALLER_NOT_AUTHORIZED:  # the rest tells of the run
        told = {key: told[key] for key in ("runId",) if key in told}
    status = status_of(
        error, metadata=told, request_id=exchange.request_id, debug=debug
    )
    exchange.code = CODES[status.code]
    exchange.reason = error.reason.name
    trailers = [
        *trailing_ids(exchange, told),
        ("grpc-retry-pushback-ms", str(error.pushback_ms)),
        ("grpc-status-details-bin", status.SerializeToString()),
    ]
    return await exchange.context.abort(
        exchange.code, status.message, trailing_metadata=tuple(trailers)
    )
