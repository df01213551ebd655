"""The static shares of replicas."""

from __future__ import annotations

import pytest

from healthomics_gateway.runs.shared_rate import LEAST_SHARE, static_share
from healthomics_gateway.shared.store import Rate


@pytest.mark.parametrize("number", [1, 2, 3, 7, 50, 1000])
@pytest.mark.parametrize("rate", [Rate(8.0, 2.0), Rate(10.0, 1.0), Rate(1000.0, 50.0)])
def test_static_shares_stay_within_rate_and_burst(number: int, rate: Rate) -> None:
    """All replicas together send at most tps + burst in any second.

    If they are too many for that, they still have half the rate.
    """
    share = static_share(rate, number)
    most_in_a_second = number * (share.tps + share.burst)
    most = max(rate.tps + rate.burst, rate.tps * LEAST_SHARE + number)
    assert most_in_a_second <= most + 1e-9
    assert 0 < share.tps <= rate.tps / number
