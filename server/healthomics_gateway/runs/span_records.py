"""Records the ends of spans, and the waits in the queue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from time import time_ns
from typing import TYPE_CHECKING, TypeAlias

from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.telemetry.spans import (
    CANCELLED,
    FAULTS,
    QUEUE,
    QUEUE_KIND,
    Span,
)

if TYPE_CHECKING:
    from healthomics_gateway.runs.source import Call

Waiting: TypeAlias = "Callable[[Call], AbstractContextManager[None]]"

_nothing = nullcontext()


def not_traced(_call: Call) -> AbstractContextManager[None]:
    """Record nothing."""
    return _nothing


@contextmanager
def queued(call: Call) -> Iterator[None]:
    """Record the wait for a turn, once it has ended.

    A call that is recorded may join a fetch that waits, so its span isn't begun before.
    """
    start = time_ns()
    try:
        yield
    except (GatewayError, asyncio.CancelledError) as error:
        _record_wait(call, start, error)
        raise
    _record_wait(call, start)


def _record_wait(call: Call, start: int, error: BaseException | None = None) -> None:
    if call.span:
        kind = {QUEUE_KIND: "poll" if call.is_poll else "call"}
        end_with(call.span.child(QUEUE, kind, start=start), error)


def end_with(
    span: Span, error: BaseException | None = None, *, is_client: bool = False
) -> None:
    """End a span with the reason of an error, if there is one.

    Every error is a fault in the span of an HTTP client. In other spans only those are
    that aren't the caller's.
    """
    if error is None:
        span.end()
    elif isinstance(error, GatewayError):
        reason = error.reason
        is_fault = is_client or reason.value.code in FAULTS
        span.end(reason.name, is_fault=is_fault)
    elif isinstance(error, asyncio.CancelledError):
        span.end(CANCELLED)
    else:
        span.end(type(error).__name__, is_fault=True)
