"""Rules on callers, over real sockets: what each may call, see and have."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode
from structlog.testing import capture_logs

from callers import (
    GROUP,
    LIMS,
    NOWHERE,
    OTHER,
    OURS,
    TAGGED,
    THEIRS,
    account,
    called,
    outcome,
    rule,
    states,
    token,
    until,
)
from faults.lying import LyingUpstream, said, true_run
from healthomics_gateway.errors import Reason
from support import Refusal, assert_well_made, http

BOUND = rule("spiffe://corp/ns/lims/*", run_groups=[GROUP])
FREE = rule(OTHER)
SOON = {"GATEWAY_WATCH__INTERVAL": "50ms", "GATEWAY_WATCH__MIN_INTERVAL": "10ms"}


def verdict(found: Any) -> str:
    """Tell how a call ended, in a word."""
    return found.reason if isinstance(found, Refusal) else "OK"


@pytest.mark.parametrize(
    ("identity", "run_id", "expected"),
    [
        pytest.param(LIMS, OURS, "OK", id="of-the-group"),
        pytest.param(LIMS, THEIRS, "CALLER_NOT_AUTHORIZED", id="of-another-group"),
        pytest.param(LIMS, NOWHERE, "CALLER_NOT_AUTHORIZED", id="none"),
        pytest.param(OTHER, THEIRS, "OK", id="unbound"),
        pytest.param(OTHER, NOWHERE, "RUN_NOT_FOUND", id="unbound-none"),
        pytest.param("nobody", OURS, "CALLER_NOT_AUTHORIZED", id="in-no-rule"),
        pytest.param("nobody", NOWHERE, "CALLER_NOT_AUTHORIZED", id="in-no-rule-none"),
    ],
)
async def test_caller_gets_and_watches_the_runs_of_its_rule(
    tmp_path: Path, identity: str, run_id: str, expected: str
) -> None:
    """What a rule doesn't allow is CALLER_NOT_AUTHORIZED, as is what isn't there."""
    async with called(tmp_path, BOUND, FREE, **SOON) as gateway:
        found = await outcome(gateway.get(run_id, token(identity)))
        stream = gateway.watch(run_id, token(identity))
        first = await outcome(stream.read())
        stream.cancel()

    assert expected == verdict(found) == verdict(first)


async def test_run_that_is_not_allowed_and_run_that_is_not_there_look_the_same(
    tmp_path: Path,
) -> None:
    """Code, message, details, trailers and size are equal, of GetRun and WatchRun."""
    async with called(tmp_path, BOUND) as gateway:
        told = [
            *[await outcome(gateway.get(id_, token())) for id_ in (THEIRS, NOWHERE)],
            *[(await states(gateway.watch(i, token())))[0] for i in (THEIRS, NOWHERE)],
        ]

    for each, run_id in zip(told, (THEIRS, NOWHERE) * 2, strict=True):
        assert_well_made(each)
        assert StatusCode.PERMISSION_DENIED is each.code
        assert {"runId": run_id} == each.metadata
        assert {"ErrorInfo", "RequestInfo"} == set(each.details)
        assert "x-amzn-requestid" not in each.trailers
    assert 1 == len({(each.message, each.size, len(each.trailers)) for each in told})
    assert 1 == len({frozenset(each.trailers) - {"user-agent"} for each in told})


@pytest.mark.parametrize(
    ("status", "code"),
    [
        pytest.param(403, "AccessDeniedException", id="denied-by-a-tag"),
        pytest.param(409, "ConflictException", id="conflict"),
        pytest.param(400, "ValidationException", id="validation"),
        pytest.param(418, "TeapotException", id="unknown"),
    ],
)
async def test_what_aws_says_of_a_run_is_hidden(
    tmp_path: Path, status: int, code: str
) -> None:
    """An error about one run would tell a bound caller that there is one."""
    upstream = LyingUpstream(truth=account)
    upstream.lie(THEIRS, said(status, code))
    async with called(tmp_path, BOUND, FREE, upstream=upstream) as gateway:
        bound = await outcome(gateway.get(THEIRS, token()))
        free = await outcome(gateway.get(THEIRS, token(OTHER)))

    assert "CALLER_NOT_AUTHORIZED" == bound.reason
    assert {"runId": THEIRS} == bound.metadata
    assert "CALLER_NOT_AUTHORIZED" != free.reason
    assert code == free.metadata["awsErrorCode"]


async def test_log_knows_what_the_caller_is_not_told(tmp_path: Path) -> None:
    """The operator reads in the audit what HealthOmics has answered."""
    with capture_logs() as events:
        async with called(tmp_path, BOUND) as gateway:
            await outcome(gateway.get(NOWHERE, token()))
            await outcome(gateway.get(THEIRS, token()))

    absent, theirs = (each for each in events if each["event"] == "call")
    assert "CALLER_NOT_AUTHORIZED" == absent["reason"] == theirs["reason"]
    assert ("ResourceNotFoundException", "404") == (
        absent["awsErrorCode"],
        absent["httpStatus"],
    )
    assert "RUN_NOT_FOUND" == absent["hides"]
    assert "hides" not in theirs
    assert "200" == theirs["httpStatus"]
    assert LIMS == theirs["identity"]


async def test_tags_and_withheld_members_are_the_rules_own(tmp_path: Path) -> None:
    """One caller sees less of the runs that it may see than another."""
    tagged = rule(LIMS, tags={"project": "wgs"}, withhold=["parameters", "arn"])
    async with called(tmp_path, tagged, FREE, GATEWAY_WITHHOLD="name") as gateway:
        allowed = await gateway.get(TAGGED, token())
        masked = await gateway.get(
            TAGGED, token(), read_mask={"paths": ["parameters", "status"]}
        )
        untagged = await outcome(gateway.get(OURS, token()))
        other = await gateway.get(TAGGED, token(OTHER))

    assert "CALLER_NOT_AUTHORIZED" == untagged.reason
    for run in (allowed, masked):
        assert not run.HasField("parameters")
        assert not run.unmodeled_json
    assert not allowed.HasField("arn")
    assert {"project": "wgs"} == dict(allowed.tags)
    assert other.HasField("parameters")
    assert not other.HasField("name")
    assert not allowed.HasField("name")


async def test_method_that_is_not_allowed_is_refused_before_any_work(
    tmp_path: Path,
) -> None:
    """Neither the request is read nor HealthOmics asked."""
    async with called(tmp_path, rule(LIMS, methods=["WatchRun"])) as gateway:
        told = await outcome(gateway.get("not an id", token()))
        asked = len(gateway.upstream.requests)

    assert "CALLER_NOT_AUTHORIZED" == told.reason
    assert {} == told.metadata
    assert 0 == asked


async def test_memory_answers_a_bound_caller_with_what_it_may_see(
    tmp_path: Path,
) -> None:
    """A refusal isn't made from memory: it follows a fetch sent after the call."""
    stale = {"max_staleness": {"seconds": 60}}
    async with called(tmp_path, BOUND, FREE) as gateway:
        for run_id in (OURS, THEIRS):
            await gateway.get(run_id, token(OTHER))
        with capture_logs() as events:
            await gateway.get(OURS, token(), **stale)
            refused = await outcome(gateway.get(THEIRS, token(), **stale))
        asked = [each.run_id for each in gateway.upstream.requests]

    assert "CALLER_NOT_AUTHORIZED" == refused.reason
    assert [OURS, THEIRS, THEIRS] == asked
    assert [True, False] == [e["from_memory"] for e in events if e["event"] == "call"]


async def test_shared_fetch_reaches_only_those_who_may_see_it(tmp_path: Path) -> None:
    """Two ask for one run at a time: one call upstream, an answer for one of them."""
    flows = asyncio.Event()
    upstream = LyingUpstream(truth=account)
    quota = {"GATEWAY_QUOTA__TPS": "0.5", "GATEWAY_QUOTA__BURST": "1"}
    upstream.lie(THEIRS, [flows, http(true_run(THEIRS, runGroupId="1"))])
    async with called(tmp_path, BOUND, FREE, upstream=upstream, **quota) as gateway:
        await gateway.get(OURS, token(OTHER))  # has the one token
        both = [
            asyncio.create_task(outcome(gateway.get(THEIRS, token(who))))
            for who in (LIMS, OTHER)
        ]
        await until(lambda: gateway.served.in_flight == len(both))
        flows.set()
        bound, free = await asyncio.gather(*both)
        asked = gateway.upstream.asked[THEIRS]

    assert 1 == asked
    assert "CALLER_NOT_AUTHORIZED" == bound.reason
    assert THEIRS == free.id


async def test_bound_watch_begins_with_a_fetch_of_its_own(tmp_path: Path) -> None:
    """Whoever watches the run already, a refusal follows a fetch after the call."""
    slow = {"GATEWAY_WATCH__INTERVAL": "1h"}
    async with called(tmp_path, BOUND, FREE, **slow) as gateway:
        watching = gateway.watch(THEIRS, token(OTHER))
        await watching.read()
        (told,) = await states(gateway.watch(THEIRS, token()))
        allowed = gateway.watch(OURS, token())
        first = (await allowed.read()).run
        asked = [each.run_id for each in gateway.upstream.requests]
        watching.cancel()
        allowed.cancel()

    assert "CALLER_NOT_AUTHORIZED" == told.reason
    assert OURS == first.id
    assert [THEIRS, THEIRS, OURS] == asked


async def test_bound_watch_waits_for_what_passes(tmp_path: Path) -> None:
    """Failures that may pass don't end it before its first state either."""
    upstream = LyingUpstream(truth=account)
    upstream.lie(
        OURS,
        *[said(500, "InternalServerException")] * 3,
        http(true_run(OURS, runGroupId=GROUP, status="COMPLETED")),
    )
    async with called(tmp_path, BOUND, upstream=upstream) as gateway:
        seen = await states(gateway.watch(OURS, token()))

    assert [OURS] == [each.id for each in seen]


async def test_watched_run_that_leaves_the_group_is_seen_no_more(
    tmp_path: Path,
) -> None:
    """Each state is held to the rule; the stream ends as if there were no run."""
    upstream = LyingUpstream(truth=account)
    upstream.lie(
        OURS,
        http(true_run(OURS, runGroupId=GROUP)),
        http(true_run(OURS, runGroupId="7654322", name="elsewhere")),
    )
    async with called(tmp_path, BOUND, upstream=upstream, **SOON) as gateway:
        first, told = await states(gateway.watch(OURS, token()))

    assert "germline" == first.name
    assert Reason.CALLER_NOT_AUTHORIZED.name == told.reason
    assert {"runId": OURS} == told.metadata


async def test_each_caller_has_its_own_limits(tmp_path: Path) -> None:
    """One that asks too often is told when to come back; another isn't held up."""
    limited = rule("spiffe://corp/*", calls_per_second=1, watches=1)
    async with called(tmp_path, limited, **SOON) as gateway:
        await gateway.get(OURS, token())
        told = await outcome(gateway.get(OURS, token()))
        other = await outcome(gateway.get(OURS, token(OTHER)))

    assert_well_made(told)
    assert StatusCode.RESOURCE_EXHAUSTED is told.code
    assert "CALLER_RATE_LIMITED" == told.reason
    assert {"ErrorInfo", "RequestInfo", "RetryInfo", "QuotaFailure"} == set(
        told.details
    )
    assert OURS == other.id
