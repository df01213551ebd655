"""The failed polls of a watch: the back-off, and which failures end the watch."""

from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.runs.poll_failures import DOUBT_SECONDS, Failures

IN_DOUBT = GatewayError(Reason.UPSTREAM_UNRECOGNIZED)
TRANSIENT = GatewayError(Reason.UPSTREAM_TIMEOUT)


def test_failure_in_doubt_ends_a_watch_after_a_minute() -> None:
    """The minute counts from the first of several failures in doubt."""
    failures = Failures()

    assert not failures.is_end(IN_DOUBT, 1000.0)
    assert not failures.is_end(IN_DOUBT, 999.9 + DOUBT_SECONDS)
    assert failures.is_end(IN_DOUBT, 1000.0 + DOUBT_SECONDS)


def test_transient_failure_begins_the_minute_of_doubt_again() -> None:
    """A failure of HealthOmics itself shows that the earlier doubt was unfounded."""
    failures = Failures()

    assert not failures.is_end(IN_DOUBT, 1000.0)
    assert not failures.is_end(TRANSIENT, 1030.0)
    assert not failures.is_end(IN_DOUBT, 1000.0 + DOUBT_SECONDS)
    assert failures.is_end(IN_DOUBT, 1000.0 + 2 * DOUBT_SECONDS)
