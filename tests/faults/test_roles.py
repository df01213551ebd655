"""Roles of callers: which session signs a request, and what STS may answer."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1 import health_pb2

from healthomics.v1.run_pb2 import Run
from healthomics.v1.run_service_pb2 import GetRunRequest
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.sandbox import ACCESS_KEY_ID
from healthomics_gateway.upstream.config import Aws
from healthomics_gateway.upstream.sts import MAX_THREADS, session_name
from testkit import credential_server as credentials
from testkit.builders import ALWAYS, Refusal, http
from testkit.callers import bearing, rule, settings_of_tokens, token
from testkit.credential_server import NOTHING, CredentialSource
from testkit.lying_upstream import TRUE_ID, Answer, Request, said, true_run
from testkit.rig import Rig
from testkit.sts_server import FakeSts, granting, identified, refusing
from testkit.sts_sessions import SessionUpstream, key_of
from unit.app.test_gateway import next_health, readyz, watching

ID = "2000042"
READY = (200, "ok\n")
SERVING = health_pb2.HealthCheckResponse.SERVING
ROLE = "arn:aws:iam::123456789012:role/omics/read"
OTHER_ROLE = "arn:aws:iam::123456789012:role/omics-other"
THEIR_ROLE = "arn:aws:iam::210987654321:role/omics-read"
ALICE, BOB, EVE = "alice", "spiffe://corp/ns/lims/sa/bob", "eve@corp.example"
RULES = (
    rule(ALICE, aws_role=ROLE),
    rule(BOB, aws_role=OTHER_ROLE),
    rule(EVE, aws_role=THEIR_ROLE),
    rule("anonymous"),
)
DENIED = Reason.UPSTREAM_ACCESS_DENIED
UNAVAILABLE = Reason.GATEWAY_CREDENTIALS_UNAVAILABLE
CALLERS = 100
MINUTES_20 = timedelta(minutes=20)


@cache
def bearer(identity: str) -> Any:
    """Return the metadata of a caller's calls."""
    return bearing(token(identity)) if identity else ()


@dataclass
class Scene:
    """A gateway between STS, HealthOmics and callers with identities."""

    rig: Rig
    sts: FakeSts

    def call(self, identity: str, run_id: str = ID, **fields: Any) -> Any:
        """Make a call; without an identity it uses the gateway's own credentials."""
        seconds = fields.pop("seconds", 10.0)
        return self.rig.stub.GetRun(
            GetRunRequest(id=run_id, **fields),
            timeout=seconds,
            metadata=bearer(identity),
        )

    async def run(self, identity: str, run_id: str = ID, **fields: Any) -> Run:
        """Make a call that must succeed."""
        self.rig.tally.calls += 1
        run: Run = await self.call(identity, run_id, **fields)
        self.rig.tally.outcomes["OK"] += 1
        return run

    async def refusal(
        self, identity: str, reason: Reason, run_id: str = ID, **fields: Any
    ) -> Refusal:
        """Make a call that must fail for `reason`."""
        seconds = fields.setdefault("seconds", 10.0)
        call = self.call(identity, run_id, **fields)
        return await self.rig.refused(call, reason, seconds=seconds)

    @property
    def asked(self) -> list[str]:
        """Return the session (or "") of each request, except for the rig's own."""
        requests = self.rig.upstream.requests
        return [self.sts.name_of(each) for each in requests if each.run_id != TRUE_ID]

    @property
    def logged(self) -> list[tuple[str, str]]:
        """Return the logged failures of STS, with their calls' IDs."""
        return [
            (each["error"], each["request_id"])
            for each in self.rig.log
            if each["event"] == "credentials_unavailable"
        ]


@asynccontextmanager
async def scene(
    rigged: Any,
    folder: Path,
    *,
    sts: FakeSts | None = None,
    rules: tuple[str, ...] = RULES,
    aws: Any = None,
    upstream: dict[str, Any] | None = None,
    **more: Any,
) -> AsyncIterator[Scene]:
    """Run a gateway whose callers have roles, except for the witness."""
    async with (
        sts or FakeSts() as asked,
        SessionUpstream(asked.given, **(upstream or {})) as healthomics,
        rigged(
            upstream=healthomics,
            aws=aws or asked.aws,
            toml="".join(rules),
            **settings_of_tokens(folder),
            **more,
        ) as rig,
    ):
        yield Scene(rig, asked)


def truth(request: Request) -> Answer:
    """Return the run for any valid signature."""
    fault = request.fault
    return said(403, fault) if fault else http(true_run(request.run_id))


# The session of each request.


@pytest.mark.guarantee("role-sessions")
async def test_session_has_the_role_and_name_of_its_caller(
    rigged: Any, tmp_path: Path
) -> None:
    """STS is asked for the caller's role and name; the session signs its requests."""
    async with scene(rigged, tmp_path) as s:
        for identity in (ALICE, BOB, EVE, ""):
            await s.run(identity)

    names = [session_name(each) for each in (ALICE, BOB, EVE)]
    assert [(ROLE, names[0]), (OTHER_ROLE, names[1]), (THEIR_ROLE, names[2])] == [
        (each.role, each.name) for each in s.sts.assumed
    ]
    assert (ALICE, EVE) == (names[0], names[2])
    assert names == [each.source_identity for each in s.sts.assumed]
    assert ["3600"] * 3 == [each.seconds for each in s.sts.assumed]
    assert [*names, ""] == s.asked
    requests = [each for each in s.rig.upstream.requests if each.run_id == ID]
    keys = [key_of(each.headers) for each in requests]
    assert [*s.sts.given, ACCESS_KEY_ID] == keys
    tokens = [given.token for given in s.sts.given.values()]
    assert [*tokens, None] == [e.headers.get("x-amz-security-token") for e in requests]
    assert {""} == {each.fault for each in requests}
    assert {""} == {each.fault for each in s.sts.asked}
    agent = f"healthomics-gateway/{version('healthomics-gateway')}"
    assert [] == [each.agent for each in s.sts.asked if agent not in each.agent]


async def test_account_is_read_once_if_rules_have_roles(
    rigged: Any, tmp_path: Path
) -> None:
    """STS is asked for the gateway's account before the first call, and never again."""
    async with scene(rigged, tmp_path) as s:
        await s.run(ALICE)
        actions = [each.action for each in s.sts.asked]
    async with scene(rigged, tmp_path, rules=(rule("anonymous"),)) as without:
        await without.run("")

    assert ["GetCallerIdentity", "AssumeRole"] == actions
    assert [] == without.sts.asked


async def test_callers_of_one_rule_have_sessions_of_their_own(
    rigged: Any, tmp_path: Path
) -> None:
    """The role of a rule is assumed for each caller, with the caller's name."""
    callers = [f"lims/{at}" for at in range(5)]
    rules = (rule("lims/*", aws_role=ROLE), rule("anonymous"))
    async with scene(rigged, tmp_path, rules=rules) as s:
        await asyncio.gather(*(s.run(each) for each in callers * 2))

    expected = {session_name(each) for each in callers}
    assert {ROLE} == {each.role for each in s.sts.assumed}
    assert dict.fromkeys(expected, 1) == s.sts.names
    assert expected == set(s.asked)


async def test_concurrent_calls_of_a_caller_share_one_session(
    rigged: Any, tmp_path: Path
) -> None:
    """A hundred calls wait for one session; a call that leaves doesn't end it."""
    ids = [str(4_200_000 + at) for at in range(CALLERS)]
    async with scene(rigged, tmp_path) as s:
        s.sts.stall(ROLE)
        leaving = s.call(ALICE)
        async with asyncio.timeout(5):
            await s.sts.came.acquire()  # GetCallerIdentity
            await s.sts.came.acquire()
        calls = [asyncio.create_task(s.run(ALICE, run_id)) for run_id in ids]
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        s.sts.flow(ROLE)
        runs = await asyncio.gather(*calls)

    assert ids == [run.id for run in runs]
    assert {ALICE: 1} == s.sts.names
    assert {ALICE} == set(s.asked)


@pytest.mark.guarantee("role-sessions")
async def test_answer_is_not_shared_between_sessions(
    rigged: Any, tmp_path: Path
) -> None:
    """Neither a shared fetch nor a cached answer is used for another session."""
    sts = FakeSts()

    def seen(request: Request) -> Answer:
        return http(true_run(request.run_id, name=sts.name_of(request) or "own"))

    callers = [ALICE, BOB, EVE, ""] * 5
    stale = Duration(seconds=60)
    async with scene(rigged, tmp_path, sts=sts, upstream={"truth": seen}) as s:
        at_once = await asyncio.gather(*(s.run(each) for each in callers))
        later = [await s.run(each, max_staleness=stale) for each in callers]

    expected = [session_name(each) if each else "own" for each in callers]
    assert expected == [run.name for run in at_once]
    assert expected == [run.name for run in later]


# Sessions that expire.


@pytest.mark.guarantee("session-renewal")
async def test_session_that_expires_during_calls_is_replaced_once(
    rigged: Any, tmp_path: Path
) -> None:
    """Each session is renewed once, each request is signed again once."""
    callers = {str(4_210_000 + at): (ALICE, BOB)[at % 2] for at in range(CALLERS)}
    came, ended = asyncio.Semaphore(0), asyncio.Event()
    async with scene(rigged, tmp_path, GATEWAY_UPSTREAM__MAX_CONCURRENT="128") as s:
        await asyncio.gather(s.run(ALICE), s.run(BOB))
        old = set(s.sts.given)

        def expired(request: Request) -> Answer:
            if key_of(request.headers) not in old:
                return truth(request)
            came.release()
            return [ended, said(400, "ExpiredTokenException")]

        for run_id in callers:
            s.rig.upstream.lie(run_id, expired)
        calls = [
            asyncio.create_task(s.run(caller, each)) for each, caller in callers.items()
        ]
        for _ in calls:
            await came.acquire()
        ended.set()
        runs = await asyncio.gather(*calls)
        ready = await readyz(s.rig.served)

    assert list(callers) == [run.id for run in runs]
    assert {ALICE: 2, session_name(BOB): 2} == s.sts.names
    assert {2} == {s.rig.upstream.asked[run_id] for run_id in callers}
    assert READY == ready


async def test_expired_session_is_not_used(rigged: Any, tmp_path: Path) -> None:
    """An expired session is replaced before a request is sent."""
    async with scene(rigged, tmp_path, sts=FakeSts(lasting=timedelta(0))) as s:
        await s.run(ALICE)
        s.sts.lasting = timedelta(hours=1)
        ended = len(s.sts.given)
        for _ in range(3):
            await s.run(ALICE)

    requests = [each for each in s.rig.upstream.requests if each.run_id == ID]
    *_, last = s.sts.given
    assert ended + 1 == len(s.sts.given)
    assert [last] * 3 == [key_of(each.headers) for each in requests[1:]]


async def test_session_that_is_always_refused_is_an_error(
    rigged: Any, tmp_path: Path
) -> None:
    """At most one more request is sent, and readiness doesn't change."""
    async with scene(rigged, tmp_path) as s:
        s.rig.upstream.lie(ID, said(403, "UnrecognizedClientException"))
        await s.refusal(ALICE, Reason.GATEWAY_CREDENTIALS_INVALID)
        ready = await readyz(s.rig.served)

    assert ([ALICE] * 2, READY) == (s.asked, ready)


# Responses of STS.


@pytest.mark.guarantee("session-renewal")
@pytest.mark.parametrize(
    ("answer", "reason", "logged"),
    [
        pytest.param(refusing("AccessDenied"), DENIED, "AccessDenied", id="denied"),
        pytest.param(
            refusing("AccessDeniedException"),
            DENIED,
            "AccessDeniedException",
            id="denied-otherwise",
        ),
        pytest.param(
            refusing("Throttling", status=400),
            UNAVAILABLE,
            "Throttling",
            id="throttled",
        ),
        pytest.param(
            refusing("ExpiredToken"), UNAVAILABLE, "ExpiredToken", id="own-expired"
        ),
        pytest.param(
            refusing("InvalidClientTokenId"),
            UNAVAILABLE,
            "InvalidClientTokenId",
            id="own-invalid",
        ),
        pytest.param(
            refusing("SignatureDoesNotMatch"),
            UNAVAILABLE,
            "SignatureDoesNotMatch",
            id="signature",
        ),
        pytest.param(
            refusing("RegionDisabledException"),
            UNAVAILABLE,
            "RegionDisabledException",
            id="region",
        ),
        pytest.param(
            refusing("ValidationError", status=400),
            UNAVAILABLE,
            "ValidationError",
            id="validation",
        ),
        pytest.param(
            refusing("arn:aws:iam::1 canary", status=400),
            UNAVAILABLE,
            "ClientError",
            id="odd-code",
        ),
        pytest.param(
            refusing("InternalFailure", status=500),
            UNAVAILABLE,
            "InternalFailure",
            id="500",
        ),
        pytest.param(
            http(b"<html>", status=403, keep=False),
            UNAVAILABLE,
            "ResponseParserError",
            id="html-403",
        ),
        pytest.param(
            http(b"<html>", keep=False), UNAVAILABLE, "ResponseParserError", id="html"
        ),
        pytest.param(http(b"<a/>", keep=False), UNAVAILABLE, "KeyError", id="empty"),
        pytest.param(b"", UNAVAILABLE, "ConnectionClosedError", id="cut"),
        pytest.param(
            granting(access_key="ASIA ODD"),
            UNAVAILABLE,
            "MalformedCredentials",
            id="key-that-no-header-holds",
        ),
        pytest.param(
            granting(expiration="soon"),
            UNAVAILABLE,
            "ValueError",
            id="no-time",
        ),
    ],
)
async def test_failure_of_sts_affects_only_its_callers(
    rigged: Any, tmp_path: Path, *, answer: bytes, reason: Reason, logged: str
) -> None:
    """They get the error and no request is sent; no other caller is affected."""
    async with scene(rigged, tmp_path) as s:
        s.sts.refuse(ROLE, answer)
        refusal = await s.refusal(ALICE, reason)
        ready = await readyz(s.rig.served)
        await s.run(BOB)
        await s.run("")
        s.sts.refuse(OTHER_ROLE, answer)
        await s.run(BOB)  # Bob's session exists now

    details = ALWAYS if reason is DENIED else ALWAYS | {"RetryInfo"}
    assert (details, {"runId": ID}) == (set(refusal.details), refusal.metadata)
    assert [session_name(BOB), "", session_name(BOB)] == s.asked
    assert [(logged, refusal.details["RequestInfo"].request_id)] == s.logged
    assert READY == ready
    log = str(s.rig.log)
    assert [] == [each for each in ("arn:", "canary", "123456789012") if each in log]


async def test_refused_role_is_tried_again(rigged: Any, tmp_path: Path) -> None:
    """A refusal of STS isn't cached: the next call asks again."""
    async with scene(rigged, tmp_path) as s:
        s.sts.refuse(ROLE, refusing("AccessDenied"))
        await s.refusal(ALICE, DENIED)
        assert {ALICE: 1} == s.sts.names
        s.sts.allow(ROLE)
        await s.run(ALICE)

    assert ({ALICE: 2}, [ALICE]) == (s.sts.names, s.asked)


@pytest.mark.guarantee("slow-sts")
async def test_stalled_sts_delays_no_other_caller(rigged: Any, tmp_path: Path) -> None:
    """Calls that wait for STS take no places of others, and are answered later."""
    ids = [str(4_220_000 + at) for at in range(20)]
    async with scene(rigged, tmp_path, GATEWAY_UPSTREAM__MAX_CONCURRENT="2") as s:
        await s.run(BOB)
        s.sts.stall(ROLE)
        waiting = [asyncio.create_task(s.run(ALICE, each)) for each in ids]
        while ALICE not in s.sts.names:
            await s.sts.came.acquire()
        for each in ids:
            await s.run(BOB, each)
            await s.run("", each)
        ready = await readyz(s.rig.served)
        still = [each for each in waiting if not each.done()]
        s.sts.flow(ROLE)
        await asyncio.gather(*waiting)

    assert (waiting, READY) == (still, ready)
    assert ids == sorted(
        each.run_id for each in s.rig.upstream.requests if s.sts.name_of(each) == ALICE
    )


@pytest.mark.guarantee("slow-sts")
async def test_slow_renewal_delays_no_other_caller(rigged: Any, tmp_path: Path) -> None:
    """Calls whose session is refused wait for a new one without a place."""
    expired = said(400, "ExpiredTokenException")
    refused = [str(4_240_000 + at) for at in range(5)]
    async with scene(rigged, tmp_path, GATEWAY_UPSTREAM__MAX_CONCURRENT="2") as s:
        await s.run(ALICE)
        s.sts.stall(ROLE)
        for each in refused:
            s.rig.upstream.lie(each, expired, http(true_run(each)))
        waiting = [asyncio.create_task(s.run(ALICE, each)) for each in refused]
        while s.sts.names[ALICE] < 2:
            await s.sts.came.acquire()
        for each in ("", BOB):
            await s.run(each, seconds=5.0)
        s.sts.flow(ROLE)
        await asyncio.gather(*waiting)

    assert 2 == s.sts.names[ALICE]


@pytest.mark.guarantee("abandoned-sessions")
async def test_calls_that_left_a_stalled_sts_use_few_threads(
    rigged: Any, tmp_path: Path
) -> None:
    """Few threads ask STS; a request that no call waits for isn't begun."""
    callers = [f"lims/{at}" for at in range(3 * MAX_THREADS)]
    rules = (rule("lims/*", aws_role=ROLE), rule("anonymous"))
    async with scene(rigged, tmp_path, rules=rules) as s:
        s.sts.stall(ROLE)
        calls = [s.call(each, seconds=30.0) for each in callers]
        for _ in range(1 + MAX_THREADS):  # GetCallerIdentity is the first
            await s.sts.came.acquire()
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        async with asyncio.timeout(5):
            while s.rig.served.in_flight:  # noqa: ASYNC110  # there is no event for it
                await asyncio.sleep(0.005)
        threads = [each.name for each in threading.enumerate()]
        s.sts.flow(ROLE)
        await s.run("lims/late")

    assert MAX_THREADS == threads.count("aws-credentials")
    assert MAX_THREADS + 1 == len(s.sts.assumed)


async def test_missing_sts_is_reported_at_once(rigged: Any, tmp_path: Path) -> None:
    """Without an STS endpoint, or if none listens, a role is unavailable."""
    unreachable = FakeSts()
    unreachable.url = "http://127.0.0.1:9"
    for aws in (unreachable.aws, None):
        sts = FakeSts()
        place = aws or (lambda url, sts=sts: _without(sts, url))
        async with scene(rigged, tmp_path, sts=sts, aws=place) as s:
            await s.refusal(ALICE, UNAVAILABLE)
            assert READY == await readyz(s.rig.served)
            await s.run("")

        assert ([], [""]) == (sts.asked, s.asked)


def _without(sts: FakeSts, url: str) -> Aws:
    sts.url = ""
    return sts.aws(url)


# The gateway's own credentials, and its clock.


@asynccontextmanager
async def sourced(
    rigged: Any, folder: Path, source: CredentialSource, **more: Any
) -> AsyncIterator[Scene]:
    """Run a gateway whose own credentials come from the source."""
    own = credentials.token(1)
    async with source:
        sts = FakeSts(own_token=own)

        def aws(url: str) -> Aws:
            place = sts.aws(url)
            found = source.aws()(url)
            return Aws(place.region, url, place.ca_file, found.provider, sts=place.sts)

        more["upstream"] = {"session_token": own}
        async with scene(rigged, folder, sts=sts, aws=aws, **more) as s:
            yield s


async def test_sts_requests_have_the_gateways_credentials(
    rigged: Any, tmp_path: Path
) -> None:
    """Requests to STS are signed with the chain's credentials and have its token."""
    source = CredentialSource(credentials.session(1))
    async with sourced(rigged, tmp_path, source) as s:
        await s.run(ALICE)

    assert {(credentials.token(1), "")} == {(e.token, e.fault) for e in s.sts.asked}
    assert 1 == source.asked


async def test_credentials_that_sts_finds_expired_are_renewed(
    rigged: Any, tmp_path: Path
) -> None:
    """No caller gets an error, and STS receives one more request."""
    source = CredentialSource(credentials.session(1))
    async with sourced(rigged, tmp_path, source) as s:
        s.sts.own_token = s.rig.upstream.session_token = credentials.token(2)
        source.answer(credentials.session(2))
        await s.run(ALICE)
        ready = await readyz(s.rig.served)

    assert ["ExpiredToken", ""] == [each.fault for each in s.sts.assumed]
    assert (1, READY) == (source.asked, ready)


async def test_gateway_without_credentials_assumes_no_role(
    rigged: Any, tmp_path: Path
) -> None:
    """Without its own credentials STS isn't called; with credentials calls succeed."""
    source = CredentialSource(NOTHING)
    async with sourced(rigged, tmp_path, source, is_truth_served=False) as s:
        await s.refusal(ALICE, UNAVAILABLE)
        asked = list(s.sts.asked)
        source.answer(credentials.session(1))
        async with watching(s.rig.served) as watch:
            await next_health(watch, SERVING)
        await s.run(ALICE)

    assert ([], [ALICE]) == (asked, s.asked)


@pytest.mark.parametrize("skew", [MINUTES_20, -MINUTES_20], ids=["ahead", "behind"])
async def test_wrong_clock_costs_one_request_for_all_sessions(
    rigged: Any, tmp_path: Path, skew: timedelta
) -> None:
    """The first refusal has AWS's time, which is used for all sessions and for STS."""

    def now() -> datetime:
        return datetime.now(UTC) + skew

    sts = FakeSts(now=now)
    async with scene(rigged, tmp_path, sts=sts, upstream={"now": now}) as s:
        for identity in (ALICE, BOB, EVE, ""):
            await s.run(identity)

    faults = Counter(each.fault for each in s.sts.asked)
    faults += Counter(each.fault for each in s.rig.upstream.requests)
    faults.pop("")
    assert {"SignatureDoesNotMatch": 1} == faults
    assert "account_unknown" not in {each["event"] for each in s.rig.log}


# The account's quota.


async def test_each_account_has_its_own_quota(rigged: Any, tmp_path: Path) -> None:
    """Roles of the gateway's account share its quota; another account has its own."""
    slow = {"GATEWAY_QUOTA__TPS": "0.5", "GATEWAY_QUOTA__BURST": "2"}
    async with scene(rigged, tmp_path, is_truth_served=False, **slow) as s:
        await s.run("")
        await s.run(ALICE)
        refusals = [
            await s.refusal(each, Reason.UPSTREAM_THROTTLED, seconds=0.5)
            for each in ("", ALICE, BOB)
        ]
        for _ in range(2):
            await s.run(EVE, seconds=1.0)

    assert [{"runId": ID, "local": "true"}] * 3 == [each.metadata for each in refusals]
    assert ["", ALICE, EVE, EVE] == s.asked


@pytest.mark.guarantee("quota-at-send")
async def test_rate_holds_after_slow_sts(rigged: Any, tmp_path: Path) -> None:
    """Calls that waited for their session are sent at the rate, not at once."""
    ids = [str(4_230_000 + at) for at in range(90)]
    quick = {"GATEWAY_QUOTA__TPS": "100", "GATEWAY_QUOTA__BURST": "2"}
    async with scene(rigged, tmp_path, is_truth_served=False, **quick) as s:
        s.sts.stall(ROLE)
        calls = [asyncio.create_task(s.run(ALICE, each)) for each in ids]
        await asyncio.sleep(0.85)
        asked = list(s.asked)
        s.sts.flow(ROLE)
        await asyncio.gather(*calls)

    assert [] == asked
    assert {} == s.rig.upstream.arrivals.excess


async def test_session_expiry_without_offset_is_utc(
    rigged: Any, tmp_path: Path
) -> None:
    """A session whose expiry has no UTC offset is used like any other."""
    async with scene(rigged, tmp_path) as s:
        s.sts.refuse(ROLE, granting(expiration="2099-01-01T00:00:00"))
        refusal = await s.refusal(ALICE, Reason.GATEWAY_CREDENTIALS_INVALID)

    assert "2" == refusal.metadata["attempts"]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(refusing("Throttling", status=400), id="throttled"),
        pytest.param(identified(UserId="A"), id="no-account"),
    ],
)
async def test_accounts_share_one_quota_if_the_own_is_unknown(
    rigged: Any, tmp_path: Path, answer: bytes
) -> None:
    """If STS doesn't return the gateway's account, no account's quota is exceeded."""
    sts = FakeSts()
    sts.refuse("", answer)
    slow = {"GATEWAY_QUOTA__TPS": "0.5", "GATEWAY_QUOTA__BURST": "2"}
    async with scene(rigged, tmp_path, sts=sts, is_truth_served=False, **slow) as s:
        await s.run(ALICE)
        await s.run(EVE)
        for each in ("", ALICE, BOB, EVE):
            await s.refusal(each, Reason.UPSTREAM_THROTTLED, seconds=0.5)

    assert "account_unknown" in {each["event"] for each in s.rig.log}
