"""Every failure becomes one status of the table, its trailers sent in one go."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import structlog
from grpc.aio import AbortError

from healthomics_gateway.errors import GatewayError, Reason, facts, status_of
from healthomics_gateway.interceptors.exchange import (
    REQUEST_ID,
    Exchange,
    Handler,
    Stage,
)

CODES = {code.value[0]: code for code in grpc.StatusCode}  # by google.rpc.Code

_log = structlog.get_logger("errors")


def errors(*, debug: bool) -> Stage:
    """Answer failures; with `debug` AWS's own message rides along."""

    def stage(proceed: Handler) -> Handler:
        async def handle(incoming: Any, exchange: Exchange) -> bytes:
            try:
                return await proceed(incoming, exchange)
            except GatewayError as error:
                failure = error
            except (AbortError, asyncio.CancelledError):
                raise
            except NotImplementedError:  # a standard service leaves a method out
                failure = GatewayError(Reason.METHOD_UNKNOWN)
            except Exception:  # noqa: BLE001  # whatever it is, no trace of it may leave
                _log.exception(
                    "bug", method=exchange.method, request_id=exchange.request_id
                )
                failure = GatewayError(Reason.GATEWAY_INTERNAL)
            return await _abort(failure, exchange, debug=debug)

        return handle

    return stage


async def _abort(error: GatewayError, exchange: Exchange, *, debug: bool) -> bytes:
    exchange.facts = {**facts.get(), **error.metadata}
    status = status_of(
        error, metadata=exchange.facts, request_id=exchange.request_id, debug=debug
    )
    exchange.code = CODES[status.code]
    exchange.reason = error.reason.name
    trailers = [
        (REQUEST_ID, exchange.request_id),
        ("grpc-retry-pushback-ms", str(error.pushback_ms)),
        ("grpc-status-details-bin", status.SerializeToString()),
    ]
    if aws_request_id := exchange.facts.get("awsRequestId"):
        trailers.append(("x-amzn-requestid", aws_request_id))
    return await exchange.context.abort(
        exchange.code, status.message, trailing_metadata=tuple(trailers)
    )
