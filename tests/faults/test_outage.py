"""An outage of HealthOmics: the number of requests that it receives."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from healthomics_gateway.errors.reasons import Reason
from testkit.builders import Refusal
from testkit.lying_upstream import said

CALLERS = 200
IN_HAND = 10  # retries that all callers share
EARNED = 0.2  # share of a retry that each call adds
BATCH = 20  # concurrent callers in the long outage


def attempts_of(refusals: list[Refusal]) -> int:
    """Return the sum of the attempts in the callers' errors."""
    return sum(int(each.metadata["attempts"]) for each in refusals)


@pytest.mark.guarantee("outage")
@pytest.mark.fault(9)
async def test_outage_receives_few_retries(rigged: Any) -> None:
    """During a steady 500, 200 calls for 200 runs cost at most 50 retries."""
    ids = [str(3_000_000 + at) for at in range(CALLERS)]
    async with rigged(is_truth_served=False) as rig:
        for run_id in ids:
            rig.upstream.lie(run_id, said(500, "InternalServerException"))
        refusals = await asyncio.gather(
            *(rig.refusal(run_id, Reason.UPSTREAM_INTERNAL) for run_id in ids)
        )
        asked = rig.upstream.asked.total()

    assert asked == attempts_of(refusals)
    assert CALLERS + IN_HAND <= asked <= CALLERS + IN_HAND + EARNED * CALLERS
    assert {1, 2, 3} >= {int(each.metadata["attempts"]) for each in refusals}


@pytest.mark.guarantee("outage")
@pytest.mark.fault(9)
async def test_long_outage_receives_six_requests_for_five_calls(rigged: Any) -> None:
    """However long an outage lasts, each call adds a fifth of a retry."""
    ids = [str(3_000_000 + at) for at in range(BATCH)]
    async with rigged(is_truth_served=False) as rig:
        for run_id in ids:
            rig.upstream.lie(run_id, said(503, "ServiceUnavailable"))
        refusals = []
        for _ in range(CALLERS * 3 // BATCH):
            refusals += await asyncio.gather(
                *(rig.refusal(run_id, Reason.UPSTREAM_UNAVAILABLE) for run_id in ids)
            )
        asked = rig.upstream.asked.total()

    calls = len(refusals)
    assert asked == attempts_of(refusals)
    assert asked <= calls + IN_HAND + math.ceil(EARNED * calls)
    assert asked >= calls * (1 + EARNED) - 1
