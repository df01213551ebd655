"""Decides which calls are traced, before OpenTelemetry creates their spans.

It needs the extra `otel`.
"""

from __future__ import annotations

from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    DEFAULT_OFF,
    Decision,
    Sampler,
    SamplingResult,
)
from opentelemetry.trace import SpanKind

from healthomics_gateway.telemetry.spans import Attributes


class TraceIds(RandomIdGenerator):
    """Random ids; the one that was drawn last is that of the next trace."""

    def __init__(self) -> None:
        """Begin without an id."""
        self._drawn = 0

    def draw(self) -> int:
        """Return the id of the trace that may begin next."""
        self._drawn = super().generate_trace_id()
        return self._drawn

    def generate_trace_id(self) -> int:
        """Return the id that was drawn, once, or another one."""
        drawn, self._drawn = self._drawn, 0
        return drawn or super().generate_trace_id()


class Decisions(Sampler):
    """Decides before a span is created, as creating one costs several times as much."""

    def __init__(self, sampler: Sampler) -> None:
        """Decide as `sampler` does."""
        self._sampler = sampler
        # Whether it records no trace that begins here.
        self.drops_roots = sampler in (ALWAYS_OFF, DEFAULT_OFF)
        self._made: SamplingResult | None = None

    def samples(
        self, context: Context, trace_id: int, name: str, attributes: Attributes
    ) -> bool:
        """Return whether a call is recorded; if it is, its span must be begun now."""
        made = self._sampler.should_sample(
            context, trace_id, name, SpanKind.SERVER, attributes, ()
        )
        is_recorded = made.decision is not Decision.DROP
        self._made = made if is_recorded else None
        return is_recorded

    def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
        """Return the decision that was made, once, or another one."""
        made, self._made = self._made, None
        return made or self._sampler.should_sample(*args, **kwargs)

    def get_description(self) -> str:
        """Return the description of the sampler."""
        return self._sampler.get_description()
