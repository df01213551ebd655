"""One log line a call, and the call's id."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc
import structlog

from healthomics_gateway.errors import Reason, facts
from healthomics_gateway.interceptors.exchange import REQUEST_ID, Exchange, Handler

_log = structlog.get_logger("call")


def observe(proceed: Handler) -> Handler:
    """Log each call as it ends, and answer its id in the trailers."""

    async def handle(incoming: Any, exchange: Exchange) -> bytes:
        context = exchange.context
        peer = context.peer()  # once the client has left, nobody knows
        start = time.perf_counter()
        try:
            answer = await proceed(incoming, exchange)
            trailers = (*context.trailing_metadata(), (REQUEST_ID, exchange.request_id))
            context.set_trailing_metadata(trailers)
        except asyncio.CancelledError:
            left = context.time_remaining()
            is_late = left is not None and left <= 0
            exchange.code = (
                grpc.StatusCode.DEADLINE_EXCEEDED
                if is_late
                else grpc.StatusCode.CANCELLED
            )
            exchange.reason = Reason.CALLER_DEADLINE.name if is_late else ""
            raise
        finally:
            seconds = time.perf_counter() - start
            _log_call(exchange, peer, seconds)
        return answer

    return handle


def _log_call(exchange: Exchange, peer: str, seconds: float) -> None:
    is_bug = exchange.code is grpc.StatusCode.INTERNAL
    (_log.error if is_bug else _log.info)(
        "call",
        method=exchange.method,
        code=exchange.code.name,
        reason=exchange.reason,
        request_id=exchange.request_id,
        peer=peer,
        duration_ms=round(seconds * 1000, 3),
        **(exchange.facts or facts.get()),
    )
