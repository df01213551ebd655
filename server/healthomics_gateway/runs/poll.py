"""The call that a poll of a watched run is."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from healthomics_gateway.runs.source import NO_ATTEMPT, Caller, UpstreamInfo
from healthomics_gateway.telemetry.spans import Span


@dataclass(slots=True, eq=False)
class Poll:
    """A call on behalf of the callers that watch its run.

    Each run that a caller watches counts as a connection of the caller.
    """

    callers: tuple[Caller, ...]
    deadline: float = inf
    is_poll: bool = True
    is_sent: bool = False
    upstream: UpstreamInfo = NO_ATTEMPT
    span: Span | None = None

    def sent(self) -> None:
        """Note that its request is about to be sent."""
        self.is_sent = True
