"""Rules on callers, over real sockets: methods, runs, members, limits and roles."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from structlog.testing import capture_logs

from healthomics.v1.run_service_pb2 import GetRunRequest, WatchRunRequest
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.upstream.sts import session_name
from testkit.authorities import HOST, channel_to, root_of, written
from testkit.builders import Refusal, assert_well_made, aws_at, calling, gateway, http
from testkit.callers import (
    GROUP,
    LIMS,
    NOWHERE,
    OTHER,
    OURS,
    SIGNER,
    TAGGED,
    THEIRS,
    account,
    bearing,
    called,
    outcome,
    rule,
    settings_of_tokens,
    states,
    stub_on,
    token,
    until,
)
from testkit.issuer import Signer
from testkit.lying_upstream import LyingUpstream, said, true_run
from testkit.sts_server import FakeSts
from testkit.sts_sessions import SessionUpstream

BOUND = rule("spiffe://corp/ns/lims/*", run_groups=[GROUP])
FREE = rule(OTHER)
SOON = {"GATEWAY_WATCH__INTERVAL": "50ms", "GATEWAY_WATCH__MIN_INTERVAL": "10ms"}


def verdict(found: Any) -> str:
    """Return a call's outcome in one word."""
    return found.reason if isinstance(found, Refusal) else "OK"


@pytest.mark.parametrize(
    ("identity", "run_id", "expected"),
    [
        pytest.param(LIMS, OURS, "OK", id="of-the-group"),
        pytest.param(LIMS, THEIRS, "CALLER_NOT_AUTHORIZED", id="of-another-group"),
        pytest.param(LIMS, NOWHERE, "CALLER_NOT_AUTHORIZED", id="none"),
        pytest.param(OTHER, THEIRS, "OK", id="unbound"),
        pytest.param(OTHER, NOWHERE, "RUN_NOT_FOUND", id="unbound-none"),
        pytest.param("unlisted", OURS, "CALLER_NOT_AUTHORIZED", id="in-no-rule"),
        pytest.param("unlisted", NOWHERE, "CALLER_NOT_AUTHORIZED", id="neither"),
    ],
)
async def test_caller_gets_and_watches_the_runs_of_its_rule(
    tmp_path: Path, identity: str, run_id: str, expected: str
) -> None:
    """Runs outside the rule and missing runs are CALLER_NOT_AUTHORIZED."""
    async with called(tmp_path, BOUND, FREE, **SOON) as gateway:
        found = await outcome(gateway.get(run_id, token(identity)))
        stream = gateway.watch(run_id, token(identity))
        first = await outcome(stream.read())
        stream.cancel()

    assert expected == verdict(found) == verdict(first)


@pytest.mark.guarantee("hidden-runs")
async def test_forbidden_run_and_missing_run_look_the_same(
    tmp_path: Path,
) -> None:
    """Code, message, details, trailers and size are equal, for GetRun and WatchRun."""
    async with called(tmp_path, BOUND) as gateway:
        refusals = [
            *[await outcome(gateway.get(id_, token())) for id_ in (THEIRS, NOWHERE)],
            *[(await states(gateway.watch(i, token())))[0] for i in (THEIRS, NOWHERE)],
        ]

    for each, run_id in zip(refusals, (THEIRS, NOWHERE) * 2, strict=True):
        assert_well_made(each)
        assert StatusCode.PERMISSION_DENIED is each.code
        assert {"runId": run_id} == each.metadata
        assert {"ErrorInfo", "RequestInfo"} == set(each.details)
        assert "x-amzn-requestid" not in each.trailers
    assert 1 == len(
        {(each.message, each.size, len(each.trailers)) for each in refusals}
    )
    trailers = {frozenset(each.trailers) - {"user-agent"} for each in refusals}
    assert 1 == len(trailers)


@pytest.mark.guarantee("hidden-runs")
@pytest.mark.parametrize(
    ("status", "code"),
    [
        pytest.param(403, "AccessDeniedException", id="denied-by-a-tag"),
        pytest.param(409, "ConflictException", id="conflict"),
        pytest.param(400, "ValidationException", id="validation"),
        pytest.param(418, "TeapotException", id="unknown"),
    ],
)
async def test_aws_error_about_a_run_is_hidden(
    tmp_path: Path, status: int, code: str
) -> None:
    """A restricted caller doesn't see an error of AWS that would reveal a run."""
    upstream = LyingUpstream(truth=account)
    upstream.lie(THEIRS, said(status, code))
    async with called(tmp_path, BOUND, FREE, upstream=upstream) as gateway:
        bound = await outcome(gateway.get(THEIRS, token()))
        free = await outcome(gateway.get(THEIRS, token(OTHER)))

    assert "CALLER_NOT_AUTHORIZED" == bound.reason
    assert {"runId": THEIRS} == bound.metadata
    assert "CALLER_NOT_AUTHORIZED" != free.reason
    assert code == free.metadata["awsErrorCode"]


@pytest.mark.guarantee("hidden-runs")
async def test_restricted_caller_receives_no_aws_message(tmp_path: Path) -> None:
    """`errors.debug` sends AWS's message only to callers that may see every run."""
    upstream = LyingUpstream(truth=account)
    upstream.lie(THEIRS, said(500, "InternalServerException"))
    debug = {"GATEWAY_ERRORS__DEBUG": "true", "GATEWAY_UPSTREAM__MAX_ATTEMPTS": "1"}
    async with called(tmp_path, BOUND, FREE, upstream=upstream, **debug) as gateway:
        bound = await outcome(gateway.get(THEIRS, token()))
        free = await outcome(gateway.get(THEIRS, token(OTHER)))

    assert "UPSTREAM_INTERNAL" == bound.reason == free.reason
    assert "DebugInfo" in free.details
    assert "DebugInfo" not in bound.details
    assert {"runId": THEIRS} == bound.metadata


async def test_audit_log_has_the_hidden_error(tmp_path: Path) -> None:
    """The audit log has HealthOmics' answer that was hidden from the caller."""
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


async def test_rule_has_its_own_tags_and_withheld_members(tmp_path: Path) -> None:
    """Each rule limits runs by its own tags and withholds its own members."""
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
    """A forbidden method is refused before the request is read."""
    async with called(tmp_path, rule(LIMS, methods=["WatchRun"])) as gateway:
        refusal = await outcome(gateway.get("not an id", token()))
        asked = len(gateway.upstream.requests)

    assert "CALLER_NOT_AUTHORIZED" == refusal.reason
    assert {} == refusal.metadata
    assert 0 == asked


@pytest.mark.guarantee("hidden-shared-runs")
async def test_cache_answers_a_restricted_caller_only_with_its_runs(
    tmp_path: Path,
) -> None:
    """A call is refused only after a new fetch, never because of a cached answer."""
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
    assert [True, False] == [e["from_cache"] for e in events if e["event"] == "call"]


@pytest.mark.guarantee("hidden-shared-runs")
async def test_shared_fetch_is_answered_only_to_permitted_callers(
    tmp_path: Path,
) -> None:
    """Two concurrent callers of one run cost one request; only one gets the run."""
    flows = asyncio.Event()
    upstream = LyingUpstream(truth=account)
    quota = {"GATEWAY_QUOTA__TPS": "0.5", "GATEWAY_QUOTA__BURST": "1"}
    upstream.lie(THEIRS, [flows, http(true_run(THEIRS, runGroupId="1"))])
    async with called(tmp_path, BOUND, FREE, upstream=upstream, **quota) as gateway:
        await gateway.get(OURS, token(OTHER))  # uses the token bucket's only token
        both = [
            asyncio.create_task(outcome(gateway.get(THEIRS, token(caller))))
            for caller in (LIMS, OTHER)
        ]
        await until(lambda: gateway.served.in_flight == len(both))
        flows.set()
        bound, free = await asyncio.gather(*both)
        asked = gateway.upstream.asked[THEIRS]

    assert 1 == asked
    assert "CALLER_NOT_AUTHORIZED" == bound.reason
    assert THEIRS == free.id


@pytest.mark.guarantee("hidden-shared-runs")
async def test_restricted_watch_begins_with_its_own_fetch(tmp_path: Path) -> None:
    """Even if others watch the run, a watch is refused only after its own fetch."""
    slow = {"GATEWAY_WATCH__INTERVAL": "1h"}
    async with called(tmp_path, BOUND, FREE, **slow) as gateway:
        watching = gateway.watch(THEIRS, token(OTHER))
        await watching.read()
        (refusal,) = await states(gateway.watch(THEIRS, token()))
        allowed = gateway.watch(OURS, token())
        first = (await allowed.read()).run
        asked = [each.run_id for each in gateway.upstream.requests]
        watching.cancel()
        allowed.cancel()

    assert "CALLER_NOT_AUTHORIZED" == refusal.reason
    assert OURS == first.id
    assert [THEIRS, THEIRS, OURS] == asked


async def test_restricted_watch_outlasts_transient_failures(tmp_path: Path) -> None:
    """A transient failure doesn't end the watch before its first state."""
    upstream = LyingUpstream(truth=account)
    upstream.lie(
        OURS,
        said(500, "InternalServerException"),
        http(true_run(OURS, runGroupId=GROUP, status="COMPLETED")),
    )
    async with called(tmp_path, BOUND, upstream=upstream) as gateway:
        seen = await states(gateway.watch(OURS, token()))

    assert [OURS] == [each.id for each in seen]


@pytest.mark.guarantee("credential-expiry")
async def test_watch_ends_with_its_token(tmp_path: Path) -> None:
    """A watch ends when the token that began it expires."""
    async with called(tmp_path, FREE, GATEWAY_JWT__LEEWAY="0s") as gateway:
        brief = token(OTHER, exp=time.time() + 1.5)
        first, end = await states(gateway.watch(OURS, brief))

    assert (OURS, "TOKEN_EXPIRED") == (first.id, end.reason)


@pytest.mark.guarantee("credential-expiry")
async def test_watch_ends_with_the_key_of_its_token(tmp_path: Path) -> None:
    """A watch ends when the issuer withdraws the key of its token."""
    async with called(tmp_path, FREE) as gateway:
        watching = gateway.watch(OURS, token(OTHER))
        first = (await watching.read()).run
        settings_of_tokens(tmp_path, Signer("second", "P-256", "second"))
        unknown = SIGNER.token(header={"kid": "third"})  # triggers a read of keys
        refused = await outcome(gateway.get(OURS, unknown))
        (end,) = await states(watching)

    assert (OURS, "TOKEN_INVALID", "TOKEN_INVALID") == (
        first.id,
        refused.reason,
        end.reason,
    )


@pytest.mark.guarantee("hidden-shared-runs")
async def test_watch_ends_when_its_run_leaves_the_group(
    tmp_path: Path,
) -> None:
    """Each state is checked against the rule; the watch ends as for a missing run."""
    upstream = LyingUpstream(truth=account)
    upstream.lie(
        OURS,
        http(true_run(OURS, runGroupId=GROUP)),
        http(true_run(OURS, runGroupId="7654322", name="elsewhere")),
    )
    async with called(tmp_path, BOUND, upstream=upstream, **SOON) as gateway:
        first, refusal = await states(gateway.watch(OURS, token()))

    assert "germline" == first.name
    assert Reason.CALLER_NOT_AUTHORIZED.name == refusal.reason
    assert {"runId": OURS} == refusal.metadata


@pytest.mark.guarantee("caller-limits", "charged-identity")
async def test_each_caller_has_its_own_limits(tmp_path: Path) -> None:
    """A caller over its rate gets a retry delay; another caller isn't delayed."""
    limited = rule("spiffe://corp/*", calls_per_second=1, watches=1)
    async with called(tmp_path, limited, **SOON) as gateway:
        await gateway.get(OURS, token())
        refusal = await outcome(gateway.get(OURS, token()))
        other = await outcome(gateway.get(OURS, token(OTHER)))

    assert_well_made(refusal)
    assert StatusCode.RESOURCE_EXHAUSTED is refusal.code
    assert "CALLER_RATE_LIMITED" == refusal.reason
    assert {"ErrorInfo", "RequestInfo", "RetryInfo", "QuotaFailure"} == set(
        refusal.details
    )
    assert OURS == other.id


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        pytest.param((), "TOKEN_MISSING", id="no-rules"),
        pytest.param((BOUND,), "TOKEN_MISSING", id="in-no-rule"),
        pytest.param((rule("*"),), "TOKEN_MISSING", id="not-everyone-known"),
        pytest.param((BOUND, rule("anonymous")), "OK", id="in-a-rule"),
    ],
)
async def test_anonymous_caller_needs_a_rule(
    tmp_path: Path, rules: tuple[str, ...], expected: str
) -> None:
    """If tokens are verified, an anonymous caller is refused unless a rule names it."""
    async with called(tmp_path, *rules) as gateway:
        found = await outcome(gateway.get(OURS))
        forged = await outcome(gateway.get(OURS, "a.b.c"))

    assert expected == verdict(found)
    assert "TOKEN_INVALID" == verdict(forged)


async def test_certificate_and_token_must_prove_the_same_identity(
    tmp_path: Path,
) -> None:
    """A certificate and a token of different identities are always refused."""
    authority, clients = trustme.CA(), trustme.CA()
    certificate = authority.issue_cert(HOST)
    files = written(certificate, tmp_path, clients=clients)
    environ = settings_of_tokens(tmp_path) | {
        "GATEWAY_TLS__CERT_FILE": str(files.cert_file),
        "GATEWAY_TLS__KEY_FILE": str(files.key_file),
        "GATEWAY_TLS__CLIENT_CA_FILE": str(files.client_ca_file),
        "GATEWAY_TLS__CLIENT_AUTH": "required",
    }
    shown, trusted = clients.issue_cert("lims.corp"), root_of(authority)
    reasons = []
    async with (
        LyingUpstream(truth=account) as upstream,
        gateway(aws_at(upstream.url), toml=rule("*"), **environ) as served,
        channel_to(str(served.address), trusted, shown) as channel,
    ):
        with capture_logs() as events:
            for tokens in ((), (token("lims.corp"),), (token(OTHER),)):
                call = stub_on(channel).GetRun(
                    GetRunRequest(id=OURS), timeout=10, metadata=bearing(*tokens)
                )
                reasons.append(verdict(await outcome(call)))

    assert ["OK", "OK", "TOKEN_INVALID"] == reasons
    (refused,) = [event for event in events if event["event"] == "token_refused"]
    assert "identity of the connection" == refused["check"]
    assert [refused["request_id"]] == [
        event["request_id"] for event in events if event.get("reason")
    ]


async def test_health_requires_a_rule_unless_it_is_open(
    tmp_path: Path,
) -> None:
    """A caller whose rule allows only RunService gets no health status."""
    prober = rule(OTHER, methods=["Health"])
    closed = {"GATEWAY_OPEN_SERVICES": "Reflection"}
    ends = []
    async with (
        called(tmp_path, BOUND, prober, **closed) as gateway,
        grpc.aio.insecure_channel(str(gateway.served.address)) as channel,
    ):
        stub: Any = health_pb2_grpc.HealthStub(channel)
        for tokens in ((), (token(),), (token(OTHER),)):
            request = health_pb2.HealthCheckRequest()
            call = stub.Check(request, timeout=10, metadata=bearing(*tokens))
            ends.append(verdict(await outcome(call)))

    assert ["TOKEN_MISSING", "CALLER_NOT_AUTHORIZED", "OK"] == ends


async def test_flood_without_identity_is_refused_at_a_limited_rate(
    tmp_path: Path,
) -> None:
    """After twenty refusals further ones are delayed; known callers are answered."""
    async with called(tmp_path, BOUND) as gateway:
        flood = [asyncio.create_task(outcome(gateway.get(OURS))) for _ in range(120)]
        await until(lambda: any(each.done() for each in flood))
        known = await outcome(gateway.get(OURS, token()))
        waiting = sum(not each.done() for each in flood)
        ends = {verdict(each) for each in await asyncio.gather(*flood)}

    assert OURS == known.id
    assert 0 < waiting
    assert {"TOKEN_MISSING"} == ends


async def test_call_and_watch_use_the_session_of_the_caller(tmp_path: Path) -> None:
    """Requests to HealthOmics are signed with the session of the caller's role."""
    roled = rule(LIMS, aws_role="arn:aws:iam::123456789012:role/omics-read")
    async with (
        FakeSts() as sts,
        SessionUpstream(sts.given, truth=account) as upstream,
        gateway(
            sts.aws(upstream.url), toml=roled, **settings_of_tokens(tmp_path)
        ) as served,
        calling(served) as stub,
    ):
        mine: Any = {"timeout": 10, "metadata": bearing(token())}
        await stub.GetRun(GetRunRequest(id=OURS), **mine)
        watch = stub.WatchRun(WatchRunRequest(id=TAGGED), **mine)
        await watch.read()
        watch.cancel()
        asked = [(each.run_id, sts.name_of(each)) for each in upstream.requests]

    name = session_name(LIMS)
    assert [(OURS, name), (TAGGED, name)] == asked
