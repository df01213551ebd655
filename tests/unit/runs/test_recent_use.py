"""The requests of the last minutes, by periods."""

from __future__ import annotations

from healthomics_gateway.runs.recent_use import PERIOD_SECONDS, PERIODS, RecentUse


def test_requests_are_counted_by_period() -> None:
    """The current period is the last; periods without requests have 0."""
    now = 1000.0
    use = RecentUse(clock=lambda: now)
    use.note()
    use.note()
    now += 2 * PERIOD_SECONDS
    use.note()

    assert PERIODS == len(use.numbers())
    assert (0, 2, 0, 1) == use.numbers()[-4:]


def test_requests_are_forgotten_after_all_periods() -> None:
    """However long nothing was counted, only the last periods are kept."""
    now = 1000.0
    use = RecentUse(clock=lambda: now)
    use.note()
    now += (PERIODS - 1) * PERIOD_SECONDS
    kept = sum(use.numbers())
    now += 1000 * PERIODS * PERIOD_SECONDS

    assert (1, 0) == (kept, sum(use.numbers()))
    assert PERIODS == len(use.numbers())
