"""Two gateways over real sockets that share a store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from healthomics_gateway.app.sharing import Sharing
from healthomics_gateway.shared.memory import MemoryStore
from healthomics_gateway.shared.names import Names
from healthomics_gateway.shared.replica import Replica
from healthomics_gateway.shared.seal import Sealer
from healthomics_gateway.telemetry.quota_scope import ALL
from testkit.builders import aws_at, calling, gateway, get_run
from testkit.callers import (
    GROUP,
    LIMS,
    OTHER,
    OURS,
    THEIRS,
    Called,
    account,
    outcome,
    rule,
    settings_of_tokens,
    token,
    until,
)
from testkit.collector import traced
from testkit.local_store import LocalStore
from testkit.lying_upstream import LyingUpstream
from testkit.metrics import scrape

STALE = {"max_staleness": {"seconds": 60}}


def shared(memory: MemoryStore) -> Sharing:
    """Return what another gateway with the same identity has of a store."""
    sealer, store = Sealer(b"secret"), LocalStore(memory)
    names = Names(sealer, region="us-east-1", endpoint="")
    replica = Replica(store, replicas=2)
    return Sharing(replica=replica, names=names, sealer=sealer, store=store, scope=ALL)


@asynccontextmanager
async def two_called(folder: Path, *rules: str) -> AsyncIterator[list[Called]]:
    """Serve two gateways with one upstream and one store; both are attached."""
    memory, environ = MemoryStore(), settings_of_tokens(folder)
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(LyingUpstream(truth=account))
        both = []
        for _ in range(2):
            sharing = shared(memory)
            served = await stack.enter_async_context(
                gateway(
                    aws_at(upstream.url),
                    toml="".join(rules),
                    refusal_seconds=0.02,
                    sharing=sharing,
                    **environ,
                )
            )
            stub = await stack.enter_async_context(calling(served))
            await until(lambda each=sharing: each.replica.is_attached)
            await until(lambda each=sharing: each.names.run("1", role="", caller=""))
            both.append(Called(served, upstream, stub))
        yield both


@pytest.mark.guarantee("shared-staleness")
async def test_answer_is_shared_with_those_that_allow_it(tmp_path: Path) -> None:
    """A run that one gateway has read costs the other no request, unless it must."""
    async with two_called(tmp_path, rule("spiffe://corp/*")) as (one, two):
        first = await one.get(OURS, token())
        with capture_logs() as events:
            found = await two.get(OURS, token(), **STALE)
            again = await two.get(OURS, token(), **STALE)
            fresh = await two.get(OURS, token())
        asked = [each.run_id for each in one.upstream.requests]
        page = await scrape(two.served)

    assert [OURS, OURS] == asked
    assert first == found == again
    assert fresh.observe_time.ToNanoseconds() > found.observe_time.ToNanoseconds()
    calls = [each for each in events if each["event"] == "call"]
    assert [True, True, False] == [each["from_cache"] for each in calls]
    assert [True, None, None] == [each.get("from_store") for each in calls]
    assert 1 == page.value("store_answers_total")
    assert 1 == page.value("cache_hits_total")
    assert 2 == page.value("answer_age_seconds_count")
    assert 0 == page.value("store_values_rejected_total")


async def test_span_shows_that_another_gateway_has_read_the_run() -> None:
    """Its own cache hits and misses have no such attribute."""
    memory = MemoryStore()
    sharings = [shared(memory) for _ in range(2)]
    async with (
        LyingUpstream(truth=account) as upstream,
        gateway(aws_at(upstream.url), sharing=sharings[0]) as one,
        traced(upstream.url, sharing=sharings[1]) as two,
        calling(one) as reader,
        calling(two.served) as stub,
    ):
        for each in sharings:
            await until(lambda each=each: each.replica.is_attached)
            await until(lambda each=each: each.names.run("1", role="", caller=""))
        await get_run(reader, OURS)
        for _ in range(2):
            await get_run(stub, OURS, **STALE)
        await get_run(stub, OURS)
        spans = await two.spans()

    calls = [
        each.attributes for each in spans.named("healthomics.v1.RunService/GetRun")
    ]
    from_store = "healthomics_gateway.from_store"
    assert [True, None, None] == [each.get(from_store) for each in calls]


async def test_shared_answer_is_hidden_from_a_restricted_caller(
    tmp_path: Path,
) -> None:
    """What another gateway has read shows a caller nothing that it may not see."""
    rules = (rule(LIMS, run_groups=[GROUP]), rule(OTHER))
    async with two_called(tmp_path, *rules) as (one, two):
        for run_id in (OURS, THEIRS):
            await one.get(run_id, token(OTHER))
        ours = await two.get(OURS, token(), **STALE)
        refused = await outcome(two.get(THEIRS, token(), **STALE))
        asked = [each.run_id for each in one.upstream.requests]

    assert OURS == ours.id
    assert "CALLER_NOT_AUTHORIZED" == refused.reason
    assert [OURS, THEIRS, THEIRS] == asked


@pytest.mark.guarantee("shared-limits")
async def test_limits_of_a_caller_hold_at_both_gateways(tmp_path: Path) -> None:
    """Watches at one gateway count at the other, and so do calls."""
    rules = (rule(LIMS, watches=2), rule(OTHER, calls_per_second=0.01))
    async with two_called(tmp_path, *rules) as (one, two):
        watches = [each.watch(OURS, token()) for each in (one, two)]
        for each in watches:
            await each.read()
        third = await outcome(one.watch(OURS, token()).read())
        call = await outcome(one.get(OURS, token(OTHER)))
        other_call = await outcome(two.get(OURS, token(OTHER)))
        for each in watches:
            each.cancel()

    assert "CALLER_RATE_LIMITED" == third.reason
    assert OURS == call.id
    assert "CALLER_RATE_LIMITED" == other_call.reason
