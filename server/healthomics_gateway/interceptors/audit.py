"""Logs each call as one event, at every log level, and returns the call's id."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import grpc
import structlog

from healthomics_gateway.context import CallContext, Handler
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.telemetry.log_lines import AUDIT

# The client's deadline passes earlier than the one that the gateway computes: by the
# time that the call took to arrive, and by the amount by which the client rounded its
# timeout up.
LATE_SECONDS = 0.02
LATE_SHARE = 0.01  # of the timeout

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
        except asyncio.CancelledError:
            lasted = clock() - start
            is_late = _is_late(call.rpc.time_remaining(), lasted)
            call.code = (
                grpc.StatusCode.DEADLINE_EXCEEDED
                if is_late
                else grpc.StatusCode.CANCELLED
            )
            call.reason = Reason.CALLER_DEADLINE.name if is_late else ""
            raise
        finally:
            seconds = clock() - start
            _log_call(call, seconds)
            if call.code is not grpc.StatusCode.OK:
                failed(call)
        return answer

    return handle


def _is_late(left: float | None, lasted: float) -> bool:
    """Return whether a client cancelled because its deadline passed."""
    if left is None:
        return False
    return left <= LATE_SECONDS + LATE_SHARE * (left + lasted)


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
        **({"listener": call.listener} if call.listener else {}),
        **call.facts,
        **({"hides": call.hidden.reason.name} if call.hidden else {}),
    )
