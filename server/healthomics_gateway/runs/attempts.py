"""The source that measures each attempt at HealthOmics."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.telemetry.metrics.parts import NOTHING

if TYPE_CHECKING:
    from healthomics_gateway.runs.source import Answer, Call, RunQuery, RunSource
    from healthomics_gateway.telemetry.metrics.parts import AttemptMetrics

NO_REASON = ""  # of an attempt that was cancelled, as nobody waited for it any more


class MeasuredAttempts:
    """Measures each attempt of the next source, by its outcome.

    A failure without an attempt, such as for lack of credentials, isn't measured.
    """

    def __init__(
        self,
        runs: RunSource,
        metrics: AttemptMetrics,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Wrap `runs`, which makes one attempt for each call."""
        self._runs = runs
        self._metrics = metrics
        self._clock = clock

    async def get_run(self, query: RunQuery, *, call: Call) -> Answer:
        """Return the next source's answer."""
        attempts, begun = call.upstream.attempts, self._clock()
        failed_for: str | None = NO_REASON
        try:
            answer = await self._runs.get_run(query, call=call)
            failed_for = None
        except GatewayError as error:
            failed_for = error.reason.name
            raise
        finally:
            if call.upstream.attempts > attempts:
                self._note(failed_for, self._clock() - begun)
        return answer

    def _note(self, failed_for: str | None, seconds: float) -> None:
        metrics = self._metrics
        if failed_for is None:
            metrics.ok.inc()
            metrics.ok_seconds.observe(seconds)
        else:
            metrics.errors.get(failed_for, NOTHING).inc()
            metrics.error_seconds.observe(seconds)
