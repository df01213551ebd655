"""Failures of a poller in a row: when to ask again, and which of them is the end."""

from __future__ import annotations

from math import inf

from healthomics_gateway.backoff import backoff_seconds
from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Advice, Reason

BACKOFF_SECONDS = 1.0  # after a failure that may pass, doubled by each that follows
MAX_BACKOFF_SECONDS = 60.0
DOUBT_SECONDS = 60.0  # that a failure in doubt lasts before it ends a watch
# Answers that may be another's than HealthOmics', such as a proxy's page: what ends a
# call doesn't end a watch unless it lasts.
IN_DOUBT = frozenset(
    {
        Reason.UPSTREAM_IDENTITY_MISMATCH,
        Reason.UPSTREAM_MALFORMED_RESPONSE,
        Reason.UPSTREAM_RESPONSE_TOO_LARGE,
        Reason.UPSTREAM_TLS_UNTRUSTED,
        Reason.UPSTREAM_UNEXPECTED_REDIRECT,
        Reason.UPSTREAM_UNRECOGNIZED,
    }
)


class Failures:
    """The failures in a row: when to ask again, and which of them is the end."""

    __slots__ = ("_doubted_since", "number")

    def __init__(self) -> None:
        self.number = 0
        self._doubted_since = inf

    def is_end(self, error: GatewayError, now: float) -> bool:
        """Return whether a failure ends a watch; one in doubt does if it lasts."""
        if error.reason not in IN_DOUBT:
            self._doubted_since = inf
            return error.reason.value.advice is Advice.STOP
        self._doubted_since = min(self._doubted_since, now)
        return now - self._doubted_since >= DOUBT_SECONDS

    def backoff_seconds(self, error: GatewayError) -> float:
        """Return in how many seconds to ask again after one more failure."""
        seconds = backoff_seconds(
            self.number, base_seconds=BACKOFF_SECONDS, max_seconds=MAX_BACKOFF_SECONDS
        )
        self.number += 1
        return max(seconds, error.retry_delay_seconds)
