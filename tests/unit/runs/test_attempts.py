"""Which attempts are measured, and how their outcome is counted."""

from __future__ import annotations

import asyncio
from math import inf

import pytest

from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.runs.attempts import MeasuredAttempts
from healthomics_gateway.runs.source import Answer, Call, OneCall, RunQuery
from healthomics_gateway.telemetry.metrics.parts import AttemptMetrics
from testkit.metrics import Seen
from testkit.serving import Scripted, answer, failure

QUERY = RunQuery("1234567")


class World:
    """A measured source on a clock that each attempt moves by two seconds."""

    def __init__(self, outcome: Answer | Exception, *, is_attempt: bool = True) -> None:
        """Answer with `outcome`, after an attempt or without one."""
        self.now = 1000.0
        self.ok, self.throttled, self.cancelled = Seen(), Seen(), Seen()
        self.ok_seconds, self.error_seconds = Seen(), Seen()

        async def ask(_query: RunQuery, call: Call) -> Answer:
            self.now += 2.0
            if is_attempt:
                call.upstream = call.upstream.next_attempt("us-east-1")
            if isinstance(outcome, Answer):
                return outcome
            raise outcome

        metrics = AttemptMetrics(
            ok=self.ok,
            errors={"UPSTREAM_THROTTLED": self.throttled, "": self.cancelled},
            ok_seconds=self.ok_seconds,
            error_seconds=self.error_seconds,
        )
        self.source = MeasuredAttempts(Scripted(ask), metrics, clock=lambda: self.now)

    @property
    def counted(self) -> tuple[int, int, int]:
        """The attempts that succeeded, were throttled and were cancelled."""
        seen = self.ok, self.throttled, self.cancelled
        return tuple(len(each.values) for each in seen)


async def test_attempt_that_succeeds_is_ok() -> None:
    """It counts with the time that it took."""
    world = World(answer())
    await world.source.get_run(QUERY, call=OneCall(inf))

    assert (1, 0, 0) == world.counted
    assert ([2.0], []) == (world.ok_seconds.values, world.error_seconds.values)


async def test_attempt_that_fails_counts_with_its_reason() -> None:
    """The error is raised as it is."""
    world = World(failure(Reason.UPSTREAM_THROTTLED))
    with pytest.raises(GatewayError):
        await world.source.get_run(QUERY, call=OneCall(inf))

    assert (0, 1, 0) == world.counted
    assert ([], [2.0]) == (world.ok_seconds.values, world.error_seconds.values)


async def test_attempt_that_is_cancelled_has_no_reason() -> None:
    """An attempt that nobody waits for any more is an error without a reason."""
    world = World(asyncio.CancelledError())
    with pytest.raises(asyncio.CancelledError):
        await world.source.get_run(QUERY, call=OneCall(inf))

    assert (0, 0, 1) == world.counted


async def test_failure_without_an_attempt_is_not_measured() -> None:
    """Missing credentials fail a call before it is an attempt."""
    unavailable = failure(Reason.GATEWAY_CREDENTIALS_UNAVAILABLE)
    world = World(unavailable, is_attempt=False)
    with pytest.raises(GatewayError):
        await world.source.get_run(QUERY, call=OneCall(inf))

    assert (0, 0, 0) == world.counted
    assert [] == world.error_seconds.values
