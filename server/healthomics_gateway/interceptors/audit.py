"""Logs each call as one event, at every log level, and returns the call's id."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import grpc
import structlog
from grpc.aio import AbortError

from healthomics_gateway.context import CallContext, Handler
from healthomics_gateway.interceptors.outcome import note_end
from healthomics_gateway.telemetry.log_lines import AUDIT

# For the events of calls alone; they are logged at every log level.
_log = structlog.wrap_logger(
    None,
    wrapper_class=structlog.make_filtering_bound_logger(logging.NOTSET),
    logger_factory_args=(AUDIT,),
)


def audit(
    proceed: Handler,
    *,
    clock: Callable[[], float] = time.perf_counter,
    failed: Callable[[CallContext], None] = lambda _: None,
) -> Handler:
    """Log each call when it ends, and return its id in the trailers.

    `failed` is called with each call that has failed.
    """

    async def handle(incoming: Any, call: CallContext) -> bytes:
        start = clock()
        try:
            answer = await proceed(incoming, call)
            if not call.error:
                call.rpc.set_trailing_metadata(call.trailing_ids())
        except (asyncio.CancelledError, AbortError) as error:
            note_end(call, error, lasted=clock() - start)
            raise
        finally:
            seconds = clock() - start
            _log_call(call, seconds)
            if call.code is not grpc.StatusCode.OK:
                failed(call)
        return answer

    return handle


def _log_call(call: CallContext, seconds: float) -> None:
    is_bug = call.code is grpc.StatusCode.INTERNAL
    (_log.error if is_bug else _log.info)(
        AUDIT,
        method=call.method,
        code=call.code.name,
        reason=call.reason,
        request_id=call.request_id,
        identity=call.identity,
        peer=call.peer,
        from_cache=call.is_from_cache,
        duration_ms=round(seconds * 1000, 3),
        **({"from_store": True} if call.is_from_store else {}),
        **({"listener": call.listener} if call.listener else {}),
        **(call.trace_ids or {}),
        **call.facts,
        **({"hides": call.hidden.reason.name} if call.hidden else {}),
    )
