"""When HealthOmics counts as unreached, on a clock that the test moves."""

from __future__ import annotations

import pytest

from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.services.reachability import (
    MIN_ATTEMPTS,
    MIN_SECONDS,
    Reachability,
)

REFUSED, LOST = Reason.UPSTREAM_CONNECTION, Reason.UPSTREAM_DNS


class Reports:
    """A reachability, its clock and what it has reported."""

    def __init__(self) -> None:
        """Begin without attempts."""
        self.now = 1000.0
        self.seen: list[Reason | None] = []
        self.state = Reachability(self.seen.append, clock=lambda: self.now)

    def fail(self, times: int, *, over: float, reason: Reason = REFUSED) -> None:
        """Note attempts without an answer, evenly in so many seconds."""
        for at in range(times):
            self.now += over / (times - 1) if at else 0.0
            self.state.note(reason)


def test_gateway_without_attempts_has_no_fault() -> None:
    """Before the first attempt nothing is wrong."""
    assert "" == Reports().state.fault()


@pytest.mark.guarantee("upstream-readiness")
def test_outage_is_reported_for_the_last_reason() -> None:
    """Five attempts in a row over 30 s without an answer are reported, then each."""
    found = Reports()
    found.fail(MIN_ATTEMPTS, over=MIN_SECONDS)
    found.fail(1, over=0, reason=LOST)

    assert [REFUSED, LOST] == found.seen
    assert "no answer in 30 s; attempts in a row: 6" == found.state.fault()


@pytest.mark.guarantee("upstream-readiness")
def test_short_outage_is_no_reason_to_be_unready() -> None:
    """Many failures within half a minute aren't reported."""
    found = Reports()
    found.fail(100, over=MIN_SECONDS - 0.1)

    assert [] == found.seen


def test_few_failures_are_no_reason_to_be_unready() -> None:
    """Four failures aren't reported, however long they take."""
    found = Reports()
    found.fail(MIN_ATTEMPTS - 1, over=3600)

    assert [] == found.seen


def test_answer_ends_an_outage() -> None:
    """An answer is reported once, and the count begins anew."""
    found = Reports()
    found.fail(MIN_ATTEMPTS, over=MIN_SECONDS)
    found.state.note(None)
    found.state.note(None)
    found.fail(MIN_ATTEMPTS - 1, over=MIN_SECONDS)

    assert [REFUSED, None] == found.seen
