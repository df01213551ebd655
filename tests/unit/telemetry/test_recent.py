"""The newest errors and the quota's use, on clocks that the test moves."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import grpc
import pytest

from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.runs.quota import LocalQuota
from healthomics_gateway.shared.adaptive_rate import RECOVERY_SECONDS
from healthomics_gateway.telemetry.recent import (
    MAX_ERRORS,
    MAX_REASONS,
    SLOT_SECONDS,
    SLOTS,
    QuotaUse,
    RecentErrors,
)
from testkit.clocks import MonotonicClock

NOW = datetime(2026, 11, 29, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A call that has failed."""

    reason: str = "RUN_NOT_FOUND"
    method: str = "/healthomics.v1.RunService/GetRun"
    code: grpc.StatusCode = grpc.StatusCode.NOT_FOUND
    request_id: str = "r-1"
    identity: str = "lims"


def errors(*calls: Failed) -> RecentErrors:
    """Return the errors after some calls."""
    found = RecentErrors(now=lambda: NOW)
    for call in calls:
        found.add(call)
    return found


def test_newest_errors_come_first_and_are_bounded() -> None:
    """The last 20 calls are kept, and all are counted."""
    calls = [Failed(request_id=f"r-{at}") for at in range(MAX_ERRORS + 5)]
    found = errors(*calls)

    kept = [f"r-{at}" for at in range(5, MAX_ERRORS + 5)]
    assert kept[::-1] == [each.request_id for each in found.newest]
    assert [MAX_ERRORS + 5] == [each.count for each in found.by_reason]


def test_flood_of_one_reason_hides_no_other() -> None:
    """Each reason keeps its count and its last call; the most frequent is first."""
    flood = [Failed(reason="TOKEN_MISSING")] * MAX_ERRORS
    found = errors(Failed(request_id="rare"), *flood)

    assert [("TOKEN_MISSING", MAX_ERRORS), ("RUN_NOT_FOUND", 1)] == [
        (each.last.reason, each.count) for each in found.by_reason
    ]
    assert "rare" == found.by_reason[1].last.request_id


def test_error_has_what_an_operator_looks_for() -> None:
    """An error has its time, code, method, request id and identity."""
    (found,) = errors(Failed()).newest

    assert (NOW, "NOT_FOUND", "r-1", "lims") == (
        found.time,
        found.code,
        found.request_id,
        found.identity,
    )
    assert "/healthomics.v1.RunService/GetRun" == found.method


def test_method_that_a_caller_made_up_is_not_kept() -> None:
    """The name of an unknown method is the caller's own text."""
    call = Failed(reason=Reason.METHOD_UNKNOWN.name, method="/<script>/x")

    assert [""] == [each.method for each in errors(call).newest]


@pytest.mark.parametrize("reason", ["", Reason.WATCH_RENEW.name])
def test_expected_end_is_no_error(reason: str) -> None:
    """A client that leaves, and a watch that has lasted long enough, are no errors."""
    found = errors(Failed(reason=reason))

    assert ([], []) == (list(found.newest), list(found.by_reason))


def test_number_of_reasons_is_bounded() -> None:
    """More reasons than the table has are counted no more."""
    found = errors(*(Failed(reason=str(at)) for at in range(MAX_REASONS + 1)))

    assert len(Reason) < MAX_REASONS
    assert MAX_REASONS == len(found.by_reason)


def use_at(clock: MonotonicClock) -> QuotaUse:
    """Return the use of a quota of 8 requests a second."""
    return QuotaUse(tps=8, recovery_seconds=RECOVERY_SECONDS, clock=clock)


def test_requests_are_counted_in_their_slot() -> None:
    """Each slot has its requests, throttles and lowest rate; the last is under way."""
    clock = MonotonicClock(SLOT_SECONDS * 100 + 5)
    use = use_at(clock)
    use.sent(8)
    use.sent(8)
    clock.now += SLOT_SECONDS
    use.throttled(5.6)
    use.sent(6)
    clock.now += 2

    first, last = use.slots
    assert (17, 10, 2, 0, 8) == (
        first.ago_seconds,
        first.seconds,
        first.used,
        first.throttled,
        first.rate_per_second,
    )
    assert (7, 7, 1, 1, 5.6) == (
        last.ago_seconds,
        last.seconds,
        last.used,
        last.throttled,
        last.rate_per_second,
    )
    assert (80, 39.2) == (first.limit, pytest.approx(last.limit))


def test_rate_that_falls_within_a_slot_is_its_lowest() -> None:
    """The lowest rate of a slot counts, whatever comes after it."""
    use = use_at(MonotonicClock(0.0))
    for rate in (8.0, 5.6, 7.0):
        use.sent(rate)

    assert [5.6] == [each.rate_per_second for each in use.slots]


def test_rate_of_slots_without_requests_recovers_as_the_quota_does() -> None:
    """After throttles, idle slots have the rate that would have been allowed."""
    clock = MonotonicClock(0.0)
    quota, use = LocalQuota(tps=8, burst=1, clock=clock), use_at(clock)
    rates = []
    for _ in range(4):
        quota.cut()
        use.throttled(quota.rate)
        clock.now += 1.0
    for at in range(1, 5):
        clock.now = at * SLOT_SECONDS
        rates.append(quota.rate)
    clock.now += 1.0
    first, *idle = use.slots

    assert 2 < first.rate_per_second < rates[0]
    assert [round(each, 3) for each in rates] == [each.rate_per_second for each in idle]
    assert rates[0] < rates[1] < rates[2] == rates[3] == 8
    use.sent(8.0)
    assert idle[:-1] == use.slots[1:-1]  # a later request changes no earlier slot


def test_slots_older_than_a_quarter_of_an_hour_are_forgotten() -> None:
    """There are at most 60 slots, and a slot that is used again begins at 0."""
    clock = MonotonicClock(0.0)
    use = use_at(clock)
    use.sent(8)
    clock.now = SLOTS * SLOT_SECONDS
    before = use.slots, use.used
    use.sent(8)

    assert (SLOTS, 0) == (len(before[0]), before[1])
    assert 0 == sum(each.used for each in before[0])
    assert (1, 1) == (use.used, sum(each.used for each in use.slots))
    assert {8} == {each.rate_per_second for each in use.slots}
