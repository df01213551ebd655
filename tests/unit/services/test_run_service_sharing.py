"""RunService with answers of other replicas, in virtual time."""

from __future__ import annotations

import asyncio
from math import inf
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from healthomics.v1.run_service_pb2 import GetRunRequest
from healthomics_gateway.auth.policy import ALL_METHODS, UNRULED, Access, Rule
from healthomics_gateway.context import CallContext, set_current_call
from healthomics_gateway.errors.exceptions import AwsAnswer, GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.runs.cache import Cache
from healthomics_gateway.runs.source import Answer, RunQuery, UpstreamInfo
from healthomics_gateway.runs.watch import Watches
from healthomics_gateway.services.limits import Limits
from healthomics_gateway.services.run_service import RunService
from testkit.serving import AWS_REQUEST_ID, Scripted, answer, call_context, failure
from testkit.virtual_time import now, virtually

RUN_ID = "1234567"
STALE = GetRunRequest(id=RUN_ID, max_staleness=Duration(seconds=9))
# May see the runs of one group only.
BOUND = Access("lims", Rule("lims", ALL_METHODS, run_groups=frozenset({"1"})))


class Others:
    """The answers of other replicas."""

    def __init__(self, found: Answer | None, *, seconds: float = 0.0) -> None:
        """Find this answer after so many seconds."""
        self._found = found
        self._seconds = seconds
        self.allowed: list[float] = []  # the ages

    async def find(self, _query: RunQuery, *, max_age_seconds: float) -> Answer | None:
        """Return the answer."""
        self.allowed.append(max_age_seconds)
        await asyncio.sleep(self._seconds)
        return self._found if max_age_seconds else None


class Rpc:
    """gRPC's context, with the time that is left."""

    def __init__(self, seconds: float | None) -> None:
        """Leave so many seconds, `None` for a call without a deadline."""
        self.time_remaining = lambda: seconds


async def get(
    request: GetRunRequest,
    source: Scripted,
    others: Others,
    *,
    cache: Cache | None = None,
    access: Access = UNRULED,
    seconds: float | None = None,
) -> tuple[Any, CallContext, float]:
    """Make a call; return the run or the reason, its context, and its duration."""
    service = RunService(
        source,
        watches=Watches(source, polls=source, interval_seconds=1.0),
        limits=Limits(default_deadline_seconds=30.0, max_staleness_limit_seconds=60.0),
        cache=cache,
        others=others,
        clock=now,
    )
    call = call_context(rpc=Rpc(seconds), access=access)
    set_current_call(call)
    begun = now()
    try:
        found: Any = await service.GetRun(request, call.rpc)
    except GatewayError as error:
        found = error.reason
    return found, call, now() - begun


def test_answer_of_another_replica_is_returned_without_a_fetch() -> None:
    """The call is one from the cache, with AWS's id of the other replica's fetch."""

    async def work() -> None:
        source, others = Scripted(failure()), Others(answer(name="shared"))
        run, call, _ = await get(STALE, source, others)

        assert ("shared", True) == (run.name, call.is_from_cache)
        assert call.is_from_store
        assert UpstreamInfo(answer=AwsAnswer(AWS_REQUEST_ID)) == call.upstream
        assert ([], [9.0]) == (source.asked, others.allowed)

    virtually(work)


@pytest.mark.guarantee("shared-staleness")
def test_fresh_request_is_answered_by_a_fetch() -> None:
    """A request without staleness allows no answer of another replica."""

    async def work() -> None:
        source, others = Scripted(answer(name="fresh")), Others(answer(name="shared"))
        run, call, _ = await get(GetRunRequest(id=RUN_ID), source, others)

        assert ("fresh", False) == (run.name, call.is_from_cache)
        assert [0.0] == others.allowed

    virtually(work)


def test_own_cached_answer_is_preferred() -> None:
    """A call that finds an answer here doesn't ask the store."""

    async def work() -> None:
        cache, others = Cache(max_bytes=100_000), Others(answer(name="shared"))
        cache.put(RunQuery(RUN_ID), answer(name="own"))
        run, call, _ = await get(STALE, Scripted(failure()), others, cache=cache)

        assert ("own", []) == (run.name, others.allowed)
        assert (True, False) == (call.is_from_cache, call.is_from_store)

    virtually(work)


def test_run_is_fetched_if_no_other_replica_has_it() -> None:
    """Its answer isn't one from the cache."""

    async def work() -> None:
        run, call, _ = await get(STALE, Scripted(answer(name="own")), Others(None))

        assert ("own", False) == (run.name, call.is_from_cache)

    virtually(work)


@pytest.mark.guarantee("hidden-shared-runs")
def test_answer_of_another_replica_is_hidden_by_the_rules() -> None:
    """A restricted caller gets it if it may see it, else a fetch decides."""

    async def work() -> None:
        own = Scripted(answer(name="own", run_group_id="1"))
        seen = answer(name="shared", run_group_id="1")
        hidden = answer(name="shared", run_group_id="2")
        shared, _, _ = await get(STALE, own, Others(seen), access=BOUND)
        fetched, call, _ = await get(STALE, own, Others(hidden), access=BOUND)

        assert ("shared", "own", False) == (
            shared.name,
            fetched.name,
            call.is_from_cache,
        )

    virtually(work)


@pytest.mark.guarantee("hidden-runs")
@pytest.mark.parametrize("is_found", [True, False], ids=["found", "not-found"])
@pytest.mark.parametrize("seconds", [0.0, 0.05])
def test_look_up_does_not_change_the_time_of_a_refusal(
    seconds: float, *, is_found: bool
) -> None:
    """Neither what the store has nor its delay shows whether a run exists."""
    hidden = answer(run_group_id="2")

    async def work() -> None:
        others = Others(hidden if is_found else None, seconds=seconds)
        shown = [
            (found, call.metadata, call.trailing_ids(), call.is_from_cache, lasted)
            for found, call, lasted in (
                await get(STALE, Scripted(hidden), others, access=BOUND),
                await get(
                    STALE, Scripted(failure(Reason.RUN_NOT_FOUND)), others, access=BOUND
                ),
            )
        ]
        own = ({"runId": RUN_ID}, (("x-request-id", "r-1"),), False)
        refused = (Reason.CALLER_NOT_AUTHORIZED, *own, pytest.approx(0.5))

        assert [refused, refused] == [
            (found, {"runId": RUN_ID}, ids[:1], is_cached, lasted)
            for found, _, ids, is_cached, lasted in shown
        ]

    virtually(work)


def test_look_up_ends_with_the_deadline_of_its_call() -> None:
    """A call doesn't wait for the store longer than its deadline."""

    async def work() -> None:
        others = Others(None, seconds=inf)
        found, call, lasted = await get(STALE, Scripted(answer()), others, seconds=0.02)

        assert Reason.CALLER_DEADLINE is found
        assert pytest.approx(0.02) == lasted
        assert 0 == call.upstream.attempts

    virtually(work)
