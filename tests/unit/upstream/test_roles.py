"""Tests of sessions of roles: their names, cache and expiry."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from math import inf
from typing import Any

import pytest
import trustme
from hypothesis import example, given, settings
from hypothesis import strategies as st

from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.runs.source import OWN, OneCall, Partition, RunQuery
from healthomics_gateway.sandbox import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY
from healthomics_gateway.upstream.clock import Clock
from healthomics_gateway.upstream.healthomics import HealthOmics
from healthomics_gateway.upstream.provider import CredentialsProvider, FixedCredentials
from healthomics_gateway.upstream.roles import MAX_SESSIONS, Roles
from healthomics_gateway.upstream.sigv4 import Credentials
from healthomics_gateway.upstream.sts import Session, Sts, session_name
from healthomics_gateway.upstream.transport import Transport
from testkit.builders import http
from testkit.lying_upstream import LyingUpstream, Request, said, true_run

RUN_ID = "1000003"
ROLE = "arn:aws:iam::123456789012:role/omics-read"
NAME = re.compile(r"[A-Za-z0-9_+=,.@-]{2,64}")  # what AWS accepts
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
OWN_KEYS = Credentials(ACCESS_KEY_ID, SECRET_ACCESS_KEY)


# Session names.

IDENTITIES = st.text(max_size=90) | st.text("ab:/-0", max_size=70)


@given(IDENTITIES)
@example("")
@example("a")
@example("aws:alice")
@example("\ud800")
@example("ü" * 64)
@settings(max_examples=300, deadline=None)
def test_name_is_valid_for_aws(identity: str) -> None:
    """Any identity has a name that AWS accepts, without the prefix `aws:`."""
    name = session_name(identity)

    assert NAME.fullmatch(name)
    assert not name.startswith("aws:")


@pytest.mark.guarantee("role-sessions")
@given(st.lists(IDENTITIES | IDENTITIES.map(session_name), unique=True, max_size=40))
@settings(max_examples=300, deadline=None)
def test_two_identities_never_share_a_name(identities: list[str]) -> None:
    """An identity that equals another one's session name gets another name."""
    assert len(identities) == len({session_name(each) for each in identities})


@pytest.mark.parametrize(
    ("identity", "name"),
    [
        pytest.param("alice", "alice", id="plain"),
        pytest.param("a.b+c=d,e@f_g-h", "a.b+c=d,e@f_g-h", id="every-mark"),
        pytest.param("a" * 64, "a" * 64, id="longest"),
        pytest.param("a" * 65, "a" * 47 + "-635361c48bb9eab1", id="too-long"),
        pytest.param("a", "a-ca978112ca1bbdca", id="too-short"),
        pytest.param("", "-e3b0c44298fc1c14", id="empty"),
        pytest.param(
            "spiffe://corp/ns/lims/sa/reader",
            "spiffe---corp-ns-lims-sa-reader-36a0e5ad6a37b971",
            id="spiffe",
        ),
        pytest.param(
            "a-ca978112ca1bbdca",
            "a-ca978112ca1bbdca-769f63a7a27a0338",
            id="like-one-made-here",
        ),
    ],
)
def test_name_stays_readable(identity: str, name: str) -> None:
    """A valid identity is the name; otherwise it is shortened, with a digest."""
    assert name == session_name(identity)


# Expiry.


@pytest.mark.parametrize(
    ("left", "seconds", "needed"),
    [
        pytest.param(timedelta(minutes=16), None, False, id="long"),
        pytest.param(timedelta(minutes=15), None, True, id="early"),
        pytest.param(timedelta(minutes=15), 0, False, id="valid"),
        pytest.param(timedelta(0), 0, True, id="over"),
    ],
)
def test_session_is_renewed_a_quarter_of_an_hour_early(
    *, left: timedelta, seconds: int | None, needed: bool
) -> None:
    """A session is renewed 15 minutes before it expires by AWS's clock."""
    clock = Clock(lambda: NOON)
    clock.skew = timedelta(minutes=20)
    session = Session("A", "secret", "token", clock.aws_now + left, clock)

    assert needed is session.refresh_needed(seconds)
    assert "Session(access_key='A'" in repr(session)
    assert "secret" not in repr(session)
    assert "token" not in repr(session)


# The cache of sessions.


class Known:
    """The identities that were created, each with its own keys."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.closed: list[str] = []

    def __call__(self, partition: Partition) -> CredentialsProvider:
        """Create an identity."""
        self.made.append(partition.identity)
        keys = Credentials(ACCESS_KEY_ID, SECRET_ACCESS_KEY, partition.identity)
        return Closing(keys, lambda: self.closed.append(partition.identity))


class Closing:
    """An identity that records when it is closed."""

    def __init__(self, credentials: Credentials, closed: Callable[[], None]) -> None:
        self._fixed = FixedCredentials(credentials)
        self._closed = closed
        self.credentials, self.renew = self._fixed.credentials, self._fixed.renew
        self.is_usable = True

    async def close(self) -> None:
        """Record the close."""
        self._closed()


def query(identity: str = "", run_id: str = RUN_ID) -> RunQuery:
    """Return a query for a caller, or for the gateway itself."""
    return RunQuery(run_id, partition=Partition(ROLE, identity) if identity else OWN)


def truth(request: Request) -> bytes:
    """Return a run whose name is the request's session token, or `own`."""
    token = request.headers.get("x-amz-security-token", "own")
    return http(true_run(request.run_id, name=token))


@asynccontextmanager
async def roles(
    provider: Callable[[Partition], CredentialsProvider],
    *,
    report: Callable[[Reason | None], None] = lambda _: None,
    **options: Any,
) -> AsyncIterator[tuple[Roles, LyingUpstream]]:
    """Create the source over a HealthOmics that accepts every session."""
    with trustme.CA().cert_pem.tempfile() as ca_file:
        transport = Transport(
            ca_file=ca_file,
            max_connections=8,
            connect_timeout_seconds=5.0,
            attempt_timeout_seconds=30.0,
            max_body_bytes=2_000_000,
        )
    async with LyingUpstream(truth=truth) as upstream:
        upstream.lie(RUN_ID, truth)
        own = HealthOmics(
            transport,
            FixedCredentials(OWN_KEYS),
            region=REGION,
            endpoint=upstream.url,
            report=report,
        )
        asked = Roles(own, provider=provider, **options)
        yield asked, upstream
        await asked.close()
        await transport.close()


async def asked_as(runs: Any, identity: str) -> str:
    """Return the session token that the request was signed with."""
    found = await runs.get_run(query(identity), call=OneCall(inf))
    return str(found.run.name)


async def test_least_recently_used_session_is_dropped() -> None:
    """The least recently used session is dropped, and created anew when needed."""
    known = Known()
    async with roles(known, max_sessions=3) as (asked, _):
        order = ["a", "b", "c", "a", "", "d", "a", "c", "b"]
        assert [each or "own" for each in order] == [
            await asked_as(asked, each) for each in order
        ]

    assert ["a", "b", "c", "d", "b"] == known.made


async def test_a_thousand_sessions_are_kept() -> None:
    """A thousand sessions are kept, and one more drops the first."""
    known = Known()
    async with roles(known) as (asked, upstream):
        callers = [f"caller-{at}" for at in range(MAX_SESSIONS + 1)]
        for each in [*callers, *callers[1:]]:
            await asked.session(query(each)).ready()
        kept = len(known.made)
        await asked.session(query(callers[0])).ready()

    assert (1000, 1001, 1002) == (MAX_SESSIONS, kept, len(known.made))
    assert [] == upstream.requests
    assert MAX_SESSIONS == len(known.closed)


async def test_call_outlives_its_session() -> None:
    """A call finishes with a session that is dropped meanwhile."""
    known, held = Known(), asyncio.Event()
    async with roles(known, max_sessions=1) as (asked, upstream):
        upstream.lie(RUN_ID, lambda request: [held, truth(request)], truth)
        first = asyncio.create_task(asked_as(asked, "a"))
        async with asyncio.timeout(5):
            while not upstream.busy:  # noqa: ASYNC110  # there is no event for it
                await asyncio.sleep(0.001)  # between two checks
        assert "b" == await asked_as(asked, "b")
        held.set()
        assert "a" == await first

    assert ["b"] == known.closed


async def test_session_that_a_call_holds_is_found_again() -> None:
    """A session that a call holds is found again after many others."""
    known = Known()
    async with roles(known, max_sessions=1) as (asked, _):
        kept = asked.session(query("a"))
        await asked_as(asked, "b")
        assert kept is asked.session(query("a"))

    assert ["a", "b"] == known.made


async def test_clock_is_shared_by_all_sessions() -> None:
    """The clock that one session corrects is used by the next."""
    ahead = timedelta(minutes=20)
    async with roles(lambda _: FixedCredentials(OWN_KEYS)) as (asked, upstream):
        upstream.now = lambda: datetime.now(UTC) + ahead
        upstream.lie(RUN_ID)
        with pytest.raises(GatewayError) as refused:
            await asked.get_run(query("a"), call=OneCall(inf))
        for each in ("a", "b", ""):
            await asked.get_run(query(each), call=OneCall(inf))

    assert Reason.GATEWAY_SIGNATURE_REJECTED is refused.value.reason
    assert ["", "", ""] == [each.fault for each in upstream.requests[1:]]


async def test_sessions_do_not_report_to_readiness() -> None:
    """A session's success or refusal isn't reported to readiness."""
    reports: list[Reason | None] = []
    async with roles(Known(), report=reports.append) as (asked, upstream):
        invalid = said(403, "UnrecognizedClientException")
        upstream.lie(RUN_ID, truth, invalid, invalid, truth)
        await asked_as(asked, "a")
        for each in ("a", ""):
            with pytest.raises(GatewayError) as refused:
                await asked_as(asked, each)
            assert refused.value.fix
            await refused.value.fix()
            assert [Reason.GATEWAY_CREDENTIALS_INVALID] * (not each) == reports
        await asked_as(asked, "")

    assert [Reason.GATEWAY_CREDENTIALS_INVALID, None] == reports


# Without STS.


async def test_roles_are_unavailable_without_sts() -> None:
    """Without STS there are neither sessions nor the account id."""
    sts = Sts(FixedCredentials(OWN_KEYS), client=None, region=REGION, clock=Clock())
    provider = sts.provider(Partition(ROLE, "a"))
    with pytest.raises(GatewayError) as refused:
        await provider.credentials()
    await provider.close()

    assert Reason.GATEWAY_CREDENTIALS_UNAVAILABLE is refused.value.reason
    assert await sts.account() is None
