"""The limits on time, age and content that the operator sets for RunService."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.runs.source import MIN_ATTEMPT_SECONDS

# An error that hides a run is returned at a multiple of this time after the call began.
# Reading a run of 1 MiB takes less than half of it, and a missing run has nothing to
# read.
REFUSAL_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits on calls of RunService."""

    default_deadline_seconds: float  # of a GetRun call without a deadline
    max_deadline_seconds: float = inf  # of GetRun calls
    max_staleness_seconds: float = 0.0  # unless the request has its own
    max_staleness_limit_seconds: float = 0.0  # of any request
    min_interval_seconds: float = 1.0  # between polls, if a request sets it
    max_stream_seconds: float = 600.0  # of WatchRun calls
    withheld: frozenset[str] = frozenset()  # AWS's names of members
    refusal_seconds: float = REFUSAL_SECONDS


def time_limit(
    own_seconds: float | None, *, default: float, longest: float
) -> tuple[float, bool]:
    """Return the seconds that a call may take, and whether its own deadline sets them.

    `own_seconds` is the time left until its own deadline. Raises DEADLINE_TOO_SHORT if
    no answer could come in time.
    """
    is_own = own_seconds is not None and own_seconds <= longest
    seconds = default if own_seconds is None else min(own_seconds, longest)
    if seconds < MIN_ATTEMPT_SECONDS:
        raise GatewayError(Reason.DEADLINE_TOO_SHORT)
    return seconds, is_own
