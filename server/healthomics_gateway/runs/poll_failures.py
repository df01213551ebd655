"""The consecutive failures of polls: when to poll again, and when to give up."""

from __future__ import annotations

from math import inf

from healthomics_gateway.backoff import backoff_seconds
from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Advice, Reason

BACKOFF_SECONDS = 1.0  # after the first failure; doubled for each that follows
MAX_BACKOFF_SECONDS = 60.0
DOUBT_SECONDS = 60.0  # after which a failure in `IN_DOUBT` ends a watch
# Answers that HealthOmics may not have sent, such as a proxy's page: they end a call,
# but a watch only if they last.
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

# Failures that other replicas may not have: this one can't reach HealthOmics, or has no
# valid credentials. Throttles and errors of HealthOmics itself aren't among them.
OWN = IN_DOUBT | {
    Reason.GATEWAY_CLOCK_SKEW,
    Reason.GATEWAY_CREDENTIALS_EXPIRED,
    Reason.GATEWAY_CREDENTIALS_UNAVAILABLE,
    Reason.UPSTREAM_CONNECTION,
    Reason.UPSTREAM_DNS,
    Reason.UPSTREAM_TIMEOUT,
    Reason.UPSTREAM_TLS,
}


class Failures:
    """The failures since the last answer."""

    __slots__ = ("_doubted_since", "number")

    def __init__(self) -> None:
        self.number = 0
        self._doubted_since = inf

    def is_end(self, error: GatewayError, now: float) -> bool:
        """Return whether an error ends a watch.

        An error in `IN_DOUBT` ends it only after DOUBT_SECONDS of such errors.
        """
        if error.reason not in IN_DOUBT:
            self._doubted_since = inf
            return error.reason.value.advice is Advice.STOP
        self._doubted_since = min(self._doubted_since, now)
        return now - self._doubted_since >= DOUBT_SECONDS

    def backoff_seconds(self, error: GatewayError) -> float:
        """Count one more failure; return the seconds until the next poll."""
        seconds = backoff_seconds(
            self.number, base_seconds=BACKOFF_SECONDS, max_seconds=MAX_BACKOFF_SECONDS
        )
        self.number += 1
        return max(seconds, error.retry_delay_seconds)
