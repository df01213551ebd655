"""Sessions of roles: how they are named, kept and renewed, over scripted identities."""

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
from healthomics_gateway.upstream.identity import FixedIdentity, Identity
from healthomics_gateway.upstream.roles import MAX_SESSIONS, Roles
from healthomics_gateway.upstream.sigv4 import Credentials
from healthomics_gateway.upstream.sts import Session, Sts, session_name
from healthomics_gateway.upstream.transport import Transport
from testkit.builders import http
from testkit.lying_upstream import LyingUpstream, Request, said, true_run

RUN_ID = "1000003"
ROLE = "arn:aws:iam::123456789012:role/omics-read"
NAME = re.compile(r"[A-Za-z0-9_+=,.@-]{2,64}")  # what AWS takes
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
OWN_KEYS = Credentials(ACCESS_KEY_ID, SECRET_ACCESS_KEY)


# How a session is named.

IDENTITIES = st.text(max_size=90) | st.text("ab:/-0", max_size=70)


@given(IDENTITIES)
@example("")
@example("a")
@example("aws:alice")
@example("\ud800")
@example("ü" * 64)
@settings(max_examples=300, deadline=None)
def test_name_is_one_that_aws_takes(identity: str) -> None:
    """Whoever calls, the name fits, and doesn't pass for one of AWS's own."""
    name = session_name(identity)

    assert NAME.fullmatch(name)
    assert not name.startswith("aws:")


@pytest.mark.guarantee("role-sessions")
@given(st.lists(IDENTITIES | IDENTITIES.map(session_name), unique=True, max_size=40))
@settings(max_examples=300, deadline=None)
def test_two_identities_never_share_a_name(identities: list[str]) -> None:
    """Who calls itself as another one is named gets a name of its own all the same."""
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
    """What AWS takes stays; else it is cut, bad characters go, and a digest comes."""
    assert name == session_name(identity)


# How long a session lasts.


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
    """By AWS's clock, which the machine's may be behind."""
    clock = Clock(lambda: NOON)
    clock.skew = timedelta(minutes=20)
    session = Session("A", "secret", "token", clock.aws_now + left, clock)

    assert needed is session.refresh_needed(seconds)
    assert "Session(access_key='A'" in repr(session)
    assert "secret" not in repr(session)
    assert "token" not in repr(session)


# Which sessions are kept.


class Known:
    """The identities that were made, each with keys of its own."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.closed: list[str] = []

    def __call__(self, partition: Partition) -> Identity:
        """Makes one."""
        self.made.append(partition.identity)
        keys = Credentials(ACCESS_KEY_ID, SECRET_ACCESS_KEY, partition.identity)
        return Closing(keys, lambda: self.closed.append(partition.identity))


class Closing:
    """An identity that tells when it is closed."""

    def __init__(self, credentials: Credentials, closed: Callable[[], None]) -> None:
        self._fixed = FixedIdentity(credentials)
        self._closed = closed
        self.credentials, self.renew = self._fixed.credentials, self._fixed.renew
        self.is_usable = True

    async def close(self) -> None:
        """Tells so."""
        self._closed()


def query(identity: str = "", run_id: str = RUN_ID) -> RunQuery:
    """Asks for a run, for a caller or as the gateway itself."""
    return RunQuery(run_id, partition=Partition(ROLE, identity) if identity else OWN)


def truth(request: Request) -> bytes:
    """Tells of the run, and whose session asked."""
    token = request.headers.get("x-amz-security-token", "own")
    return http(true_run(request.run_id, name=token))


@asynccontextmanager
async def roles(
    identity: Callable[[Partition], Identity],
    *,
    report: Callable[[Reason | None], None] = lambda _: None,
    **options: Any,
) -> AsyncIterator[tuple[Roles, LyingUpstream]]:
    """Opens the roles of a HealthOmics that takes every session."""
    with trustme.CA().cert_pem.tempfile() as nobody:
        transport = Transport(
            ca_file=nobody,
            max_connections=8,
            connect_timeout_seconds=5.0,
            attempt_timeout_seconds=30.0,
            max_body_bytes=2_000_000,
        )
    async with LyingUpstream(truth=truth) as upstream:
        upstream.lie(RUN_ID, truth)
        own = HealthOmics(
            transport,
            FixedIdentity(OWN_KEYS),
            region=REGION,
            endpoint=upstream.url,
            report=report,
        )
        asked = Roles(own, identity=identity, **options)
        yield asked, upstream
        await asked.close()
        await transport.close()


async def asked_as(runs: Any, identity: str) -> str:
    """Returns as whom HealthOmics was asked."""
    found = await runs.get_run(query(identity), call=OneCall(inf))
    return str(found.run.name)


async def test_session_that_was_used_longest_ago_goes() -> None:
    """Of so many, the one that is used again stays; who comes back gets another."""
    known = Known()
    async with roles(known, max_sessions=3) as (asked, _):
        order = ["a", "b", "c", "a", "", "d", "a", "c", "b"]
        assert [each or "own" for each in order] == [
            await asked_as(asked, each) for each in order
        ]

    assert ["a", "b", "c", "d", "b"] == known.made


async def test_a_thousand_sessions_are_kept() -> None:
    """The one that comes beyond them takes the place of the first."""
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
    """A session that goes while it is used serves the call to its end."""
    known, held = Known(), asyncio.Event()
    async with roles(known, max_sessions=1) as (asked, upstream):
        upstream.lie(RUN_ID, lambda request: [held, truth(request)], truth)
        first = asyncio.create_task(asked_as(asked, "a"))
        async with asyncio.timeout(5):
            while not upstream.busy:  # noqa: ASYNC110  # nothing tells when it is
                await asyncio.sleep(0.001)  # between two looks
        assert "b" == await asked_as(asked, "b")
        held.set()
        assert "a" == await first

    assert ["b"] == known.closed


async def test_session_that_a_call_keeps_is_found_again() -> None:
    """A call that queues finds its session, however many others came since."""
    known = Known()
    async with roles(known, max_sessions=1) as (asked, _):
        kept = asked.session(query("a"))
        await asked_as(asked, "b")
        assert kept is asked.session(query("a"))

    assert ["a", "b"] == known.made


async def test_clock_is_shared_by_all_sessions() -> None:
    """What one refusal teaches of AWS's clock, the next session knows at once."""
    ahead = timedelta(minutes=20)
    async with roles(lambda _: FixedIdentity(OWN_KEYS)) as (asked, upstream):
        upstream.now = lambda: datetime.now(UTC) + ahead
        upstream.lie(RUN_ID)
        with pytest.raises(GatewayError) as refused:
            await asked.get_run(query("a"), call=OneCall(inf))
        for each in ("a", "b", ""):
            await asked.get_run(query(each), call=OneCall(inf))

    assert Reason.GATEWAY_SIGNATURE_REJECTED is refused.value.reason
    assert ["", "", ""] == [each.fault for each in upstream.requests[1:]]


async def test_readiness_hears_of_the_own_identity_alone() -> None:
    """What AWS thinks of a session, for or against, isn't reported."""
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


# Who waits for a session.


async def test_nowhere_to_assume_a_role_is_unavailable() -> None:
    """A gateway that knows no STS has no sessions, and no account of its own."""
    sts = Sts(FixedIdentity(OWN_KEYS), client=None, region=REGION, clock=Clock())
    identity = sts.identity(Partition(ROLE, "a"))
    with pytest.raises(GatewayError) as refused:
        await identity.credentials()
    await identity.close()

    assert Reason.GATEWAY_CREDENTIALS_UNAVAILABLE is refused.value.reason
    assert await sts.account() is None
