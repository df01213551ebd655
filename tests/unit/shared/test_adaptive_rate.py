"""The rate of a quota: throttles lower it, and time restores it."""

from __future__ import annotations

import pytest

from healthomics_gateway.shared.adaptive_rate import (
    CUT,
    LEAST_TPS,
    RECOVERY_SECONDS,
    AdaptiveRate,
)


def test_rate_is_full_until_it_is_cut() -> None:
    """It follows the setting, also if that is raised."""
    rate = AdaptiveRate()

    assert 8.0 == rate.at(0.0, 8.0)
    assert 20.0 == rate.at(1.0, 20.0)


def test_throttles_of_a_second_count_once() -> None:
    """Many requests are under way when AWS begins to throttle."""
    rate = AdaptiveRate()

    assert [True, False, False] == [rate.cut(at, 10.0) for at in (5.0, 5.0, 5.9)]
    assert pytest.approx(10.0 * CUT + 0.18) == rate.at(5.9, 10.0)
    assert rate.cut(6.0, 10.0)


def test_rate_recovers_to_the_full_one() -> None:
    """From nothing it takes RECOVERY_SECONDS."""
    rate = AdaptiveRate()
    rate.cut(0.0, 10.0)

    assert pytest.approx(8.0) == rate.at(RECOVERY_SECONDS / 10, 10.0)
    assert 10.0 == rate.at(RECOVERY_SECONDS, 10.0)


@pytest.mark.parametrize(("tps", "least"), [(10.0, LEAST_TPS), (0.5, 0.5)])
def test_rate_has_a_least_value(tps: float, least: float) -> None:
    """However often AWS throttles, some requests are tried."""
    rate = AdaptiveRate()
    for at in range(200):
        rate.cut(float(at), tps)

    assert least <= rate.at(199.0, tps) <= least * 1.2
