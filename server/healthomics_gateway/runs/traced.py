"""The source that begins a trace for each poll."""

from __future__ import annotations

from typing import TYPE_CHECKING

from healthomics_gateway.telemetry.spans import POLL, RUN_ID, Tracer

if TYPE_CHECKING:
    from healthomics_gateway.runs.source import Answer, Call, RunQuery, RunSource


class TracedPolls:
    """Begins a trace for each poll that isn't part of a call's trace.

    Its call is that of a fetch, which ends its span.
    """

    def __init__(self, runs: RunSource, tracer: Tracer) -> None:
        """Wrap `runs`; `tracer` begins the traces."""
        self._runs = runs
        self._tracer = tracer

    async def get_run(self, query: RunQuery, *, call: Call) -> Answer:
        """Return the next source's answer."""
        if call.span is None:
            call.span = self._tracer.root(POLL, {RUN_ID: query.id})
        return await self._runs.get_run(query, call=call)
