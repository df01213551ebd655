"""Measures the calls of each method, as other gRPC servers do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, TypeAlias

import grpc
from grpc.aio import AbortError

from healthomics_gateway.context import CallContext, Handler, Interceptor
from healthomics_gateway.interceptors.outcome import is_refused, note_end
from healthomics_gateway.telemetry.metrics.parts import (
    NO_COUNTS,
    NOTHING,
    Count,
    Exemplar,
    MethodMetrics,
    RuleCalls,
)

OK = grpc.StatusCode.OK


@dataclass(frozen=True, slots=True)
class Measured:
    """How the calls of a method are measured: by default not at all."""

    interceptors: tuple[Interceptor, ...] = ()  # the outermost of the method
    metrics: MethodMetrics = field(default_factory=MethodMetrics)


# Returns how a method is measured, from its path and its kind.
Measure: TypeAlias = Callable[[str, str], Measured]


def measure(
    metrics: MethodMetrics,
    *,
    is_unary: bool,
    refusals: Mapping[str, Count] = NO_COUNTS,
    rules: RuleCalls | None = None,
) -> Measured:
    """Measure all calls, from their headers to their status, and count their outcome.

    `is_unary` says that a call that succeeds has one answer. `refusals` are by reason.
    `rules` are None for a method that needs no permission.
    """
    # These are looked up once, as each call uses them.
    started, sent = metrics.started, metrics.sent
    count_end = _counter_of_ends(metrics, refusals, rules)

    def intercept(proceed: Handler) -> Handler:
        async def handle(incoming: Any, call: CallContext) -> bytes:
            started.inc()
            begun = perf_counter()
            try:
                answer = await proceed(incoming, call)
            except (asyncio.CancelledError, AbortError) as error:
                note_end(call, error, lasted=perf_counter() - begun)
                raise
            finally:
                count_end(call, perf_counter() - begun)
            if is_unary and not call.error:
                sent.inc()
            return answer

        return handle

    return Measured((intercept,), metrics)


def _counter_of_ends(
    metrics: MethodMetrics, refusals: Mapping[str, Count], rules: RuleCalls | None
) -> Callable[[CallContext, float], None]:
    """Return the function that counts a call that has ended, and its seconds."""
    seconds = metrics.seconds
    handled = {
        code: metrics.handled.get(code.name, NOTHING) for code in grpc.StatusCode
    }
    handled_ok = handled[OK]

    def count_end(call: CallContext, lasted: float) -> None:
        # An exemplar costs more than all other metrics of a cached answer.
        exemplar = None if call.is_from_cache else _exemplar_of(call)
        seconds.observe(lasted, exemplar)
        if rules:
            rules.count(call.access.rule.label)
        if call.code is OK:
            handled_ok.inc()
            return
        exemplar = exemplar or _exemplar_of(call)
        handled[call.code].inc(1, exemplar)
        if is_refused(call):
            refusals.get(call.reason, NOTHING).inc(1, exemplar)

    return count_end


def _exemplar_of(call: CallContext) -> Exemplar:
    """Return the ids by which the log and the traces name a call.

    Without the span's id: the labels of an exemplar have at most 128 characters.
    """
    if call.trace_ids:
        return {"request_id": call.request_id, "trace_id": call.trace_ids["trace_id"]}
    return {"request_id": call.request_id}
