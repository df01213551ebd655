"""How a call has ended: by its client, by a method, or by an error of the gateway."""

from __future__ import annotations

import asyncio

import grpc
from grpc.aio import AbortError

from healthomics_gateway.context import CallContext
from healthomics_gateway.errors.exceptions import NotAskedError
from healthomics_gateway.errors.reasons import Reason

# The client's deadline passes earlier than the one that the gateway computes: by the
# time that the call took to arrive, and by the amount by which the client rounded its
# timeout up.
LATE_SECONDS = 0.02
LATE_SHARE = 0.01  # of the timeout
UPSTREAM = "UPSTREAM_"  # begins the reasons of answers, and of failures to get one


def note_end(
    call: CallContext, error: asyncio.CancelledError | AbortError, *, lasted: float
) -> None:
    """Set the code and the reason of a call that was cancelled or aborted.

    It took `lasted` seconds. A call that an inner interceptor has noted is left as is.
    """
    if call.code is not grpc.StatusCode.OK:
        return
    if isinstance(error, AbortError):
        call.code = call.rpc.code()
    elif _is_late(call.rpc.time_remaining(), lasted):
        call.code = grpc.StatusCode.DEADLINE_EXCEEDED
        call.reason = Reason.CALLER_DEADLINE.name
    else:
        call.code = grpc.StatusCode.CANCELLED


def is_refused(call: CallContext) -> bool:
    """Return whether a call ended in an error of the gateway's own, not of AWS's.

    UPSTREAM_THROTTLED is the gateway's own if its rate limit caused it.
    """
    if isinstance(call.error, NotAskedError):
        return True
    if call.error is not None and call.error.answer is not None:
        return False
    return bool(call.reason) and not call.reason.startswith(UPSTREAM)


def _is_late(left: float | None, lasted: float) -> bool:
    """Return whether a client cancelled because its deadline passed."""
    if left is None:
        return False
    return left <= LATE_SECONDS + LATE_SHARE * (left + lasted)
