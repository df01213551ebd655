"""The gateway's own credentials: missing, stalled, expired, refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from grpc_health.v1 import health_pb2

from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.upstream.credentials import WAIT_SECONDS
from testkit.builders import ALWAYS, Refusal, get_run, http, refused
from testkit.credential_server import NOTHING, CredentialSource, session, token
from testkit.lying_upstream import (
    TRUE_ID,
    Answer,
    LyingUpstream,
    Request,
    Wait,
    said,
    true_run,
)
from testkit.rig import Rig
from unit.app.test_gateway import next_health, readyz, watching

ID = "2000031"
READY = (200, "ok\n")
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNAVAILABLE = Reason.GATEWAY_CREDENTIALS_UNAVAILABLE
EXPIRED = Reason.GATEWAY_CREDENTIALS_EXPIRED
INVALID = Reason.GATEWAY_CREDENTIALS_INVALID
CALLERS = 100
STALE = timedelta(minutes=12)  # still valid, but due for an early refresh
WITH_RETRY = ALWAYS | {"RetryInfo"}


def waiting_for(seconds: float) -> dict[str, Any]:
    """Return options of a provider whose calls wait so long for credentials."""

    def timeout(usual: float) -> asyncio.Timeout:
        return asyncio.timeout(seconds if usual == WAIT_SECONDS else usual)

    return {"timeout": timeout}


def token_of(request: Request) -> str:
    """Return the session that signed a request."""
    return request.headers["x-amz-security-token"]


def truth(request: Request) -> Answer:
    """Return the run, whatever session signed."""
    return http(true_run(request.run_id))


def tokens(upstream: LyingUpstream, run_id: str = ID) -> list[str]:
    """Return the sessions that signed the requests about a run."""
    return [token_of(each) for each in upstream.requests if each.run_id == run_id]


def code_and_attempts(refusal: Refusal) -> tuple[str, str]:
    """Return AWS's code and the number of attempts."""
    return refusal.metadata["awsErrorCode"], refusal.metadata["attempts"]


@asynccontextmanager
async def sourced(
    rigged: Any,
    source: CredentialSource,
    *,
    number: int = 1,
    options: dict[str, Any] | None = None,
    **more: Any,
) -> AsyncIterator[Rig]:
    """Run a gateway that signs with the credentials of the source.

    The upstream accepts only session `number`, but any session for the witness's run.
    `options` are those of the provider.
    """
    async with source, LyingUpstream(session_token=token(number)) as upstream:
        upstream.lie(TRUE_ID, truth)
        aws = source.aws(**(options or {}))
        async with rigged(upstream=upstream, aws=aws, **more) as rig:
            yield rig


@pytest.mark.fault(31)
@pytest.mark.parametrize(
    "nothing",
    [
        pytest.param(NOTHING, id="404"),
        pytest.param(http(b"{}", status=500, keep=False), id="500"),
        pytest.param(http(b"{}", keep=False), id="empty"),
        pytest.param(http(b"<html>", keep=False), id="html"),
        pytest.param(b"", id="cut"),
        pytest.param(session(1, lasting=timedelta(hours=-1)), id="expired"),
    ],
)
async def test_gateway_without_credentials_waits_for_them(
    rigged: Any, nothing: bytes
) -> None:
    """A gateway without credentials is unready and sends nothing until it has some."""
    source = CredentialSource(nothing)
    async with (
        sourced(rigged, source, is_truth_served=False) as rig,
        watching(rig.served) as watch,
    ):
        refusals = [await rig.refusal(ID, UNAVAILABLE) for _ in range(2)]
        await next_health(watch, NOT_SERVING)
        unready = await readyz(rig.served)
        asked = list(rig.upstream.requests)
        source.answer(session(1))
        await next_health(watch, SERVING)
        ready = await readyz(rig.served)
        await rig.run(ID)

    assert [WITH_RETRY] * 2 == [set(each.details) for each in refusals]
    assert [{"runId": ID}] * 2 == [each.metadata for each in refusals]
    assert ((503, "GATEWAY_CREDENTIALS_UNAVAILABLE\n"), READY) == (unready, ready)
    assert ([], 1) == (asked, rig.upstream.asked[ID])


# A source that stalls.


@pytest.mark.guarantee("credential-renewal")
@pytest.mark.fault(31)
async def test_callers_leave_a_stalled_source_at_their_deadline(rigged: Any) -> None:
    """All callers wait for one read of the source, each until its deadline."""
    source = CredentialSource(session(1))
    source.stall()
    async with sourced(
        rigged, source, is_truth_served=False, GATEWAY_DEFAULT_DEADLINE="300ms"
    ) as rig:
        refusals = await asyncio.gather(
            *(
                rig.refused(
                    get_run(rig.stub, ID, seconds=None),
                    Reason.SERVER_DEADLINE,
                    seconds=0.3,
                )
                for _ in range(20)
            )
        )
        asked = len(rig.upstream.requests), source.asked
        source.flow()
        await rig.run(ID)

    assert [ALWAYS] * 20 == [set(each.details) for each in refusals]
    assert (0, 1) == asked
    assert [token(1)] == tokens(rig.upstream)


@pytest.mark.fault(31)
async def test_wait_for_a_stalled_source_is_limited(rigged: Any) -> None:
    """Callers get an error after the limit; the following ones get it at once."""
    source = CredentialSource(session(1))
    source.stall()
    async with (
        sourced(rigged, source, is_truth_served=False, options=waiting_for(0.5)) as rig,
        watching(rig.served) as watch,
    ):
        waiting = [
            asyncio.create_task(rig.refusal(ID, UNAVAILABLE, seconds=2.0))
            for _ in range(20)
        ]
        await source.came.wait()
        unready = await readyz(rig.served)
        bad = await refused(get_run(rig.stub, "no id"))
        still = [each for each in waiting if not each.done()]
        refusals = await asyncio.gather(*waiting)
        asked = len(rig.upstream.requests), source.asked
        source.flow()
        await next_health(watch, SERVING)
        await rig.run(ID)

    assert ((503, "GATEWAY_CREDENTIALS_UNAVAILABLE\n"), "INVALID_REQUEST") == (
        unready,
        bad.reason,
    )
    assert waiting == still
    assert [WITH_RETRY] * 20 == [set(each.details) for each in refusals]
    assert (0, 1) == asked


@pytest.mark.fault(31)
async def test_stalled_early_refresh_delays_no_call(rigged: Any) -> None:
    """Valid credentials are used until the refresh has ended."""
    source = CredentialSource(session(1, lasting=STALE))
    clock = {"seconds": 0.0}
    async with sourced(
        rigged, source, options={"clock": lambda: clock["seconds"]}
    ) as rig:
        source.came.clear()
        source.stall()
        source.answer(session(2))
        clock["seconds"] += 60.0  # a failed refresh is repeated after half of it
        await rig.run(ID)
        async with asyncio.timeout(5):
            await source.came.wait()
        for _ in range(20):
            await rig.run(ID)
        ready = await readyz(rig.served)
        before = tokens(rig.upstream)
        source.flow()
        rig.upstream.lie(ID, truth)
        while token(2) not in tokens(rig.upstream):
            await rig.run(ID)

    assert ([token(1)] * 21, READY) == (before, ready)
    assert 1 == source.asked


@pytest.mark.fault(31)
async def test_stalled_renewal_is_reported_as_expired(rigged: Any) -> None:
    """Callers get GATEWAY_CREDENTIALS_EXPIRED if no new credentials come in time."""
    source = CredentialSource(session(1))
    async with (
        sourced(
            rigged,
            source,
            number=2,
            options=waiting_for(0.3),
            is_truth_served=False,  # a success would make the gateway ready too early
        ) as rig,
        watching(rig.served) as watch,
    ):
        await next_health(watch, SERVING)
        ids = [str(int(ID) + at) for at in range(20)]
        for run_id in ids:
            rig.upstream.lie(run_id, expired_but_for(2))
        source.answer(session(2))
        source.stall()
        refusals = await asyncio.gather(
            *(rig.refusal(run_id, EXPIRED, seconds=2.0) for run_id in ids)
        )
        await next_health(watch, NOT_SERVING)
        asked = rig.upstream.asked.total(), source.asked
        source.flow()
        await next_health(watch, SERVING)
        await rig.run(ID)

    assert [("ExpiredTokenException", "1")] * 20 == [
        code_and_attempts(e) for e in refusals
    ]
    assert [WITH_RETRY] * 20 == [set(each.details) for each in refusals]
    assert ((20, 1), 21) == (asked, rig.upstream.asked.total())


# Credentials that HealthOmics refuses.


def expired_but_for(number: int, came: asyncio.Semaphore | None = None) -> Any:
    """Refuse every session but one as expired, and count the others' requests."""

    def answer(request: Request) -> Answer:
        if token_of(request) == token(number):
            return said(400, request.fault) if request.fault else truth(request)
        if came:
            came.release()
        return [Wait(0.2), said(400, "ExpiredTokenException")]

    return answer


@pytest.mark.guarantee("credential-renewal")
@pytest.mark.fault(31)
async def test_credentials_that_expire_in_flight_are_renewed_once(rigged: Any) -> None:
    """A hundred calls share one refresh; each is signed again once and succeeds."""
    ids = [str(3_100_000 + at) for at in range(CALLERS)]
    source = CredentialSource(session(1))
    async with sourced(
        rigged,
        source,
        number=2,
        GATEWAY_UPSTREAM__MAX_CONCURRENT="128",
    ) as rig:
        came = asyncio.Semaphore(0)
        for run_id in ids:
            rig.upstream.lie(run_id, expired_but_for(2, came))
        source.answer(session(2), session(3))
        source.stall()  # until all requests are signed with the old session
        calls = [asyncio.create_task(rig.run(each)) for each in ids]
        for _ in ids:
            await came.acquire()
        source.flow()
        runs = await asyncio.gather(*calls)
        ready = await readyz(rig.served)

    assert ids == [run.id for run in runs]
    assert [[token(1), token(2)]] * CALLERS == [tokens(rig.upstream, e) for e in ids]
    assert (1, READY) == (source.asked, ready)


@pytest.mark.fault(31)
async def test_each_expiry_costs_one_more_request(rigged: Any) -> None:
    """Each expiry of credentials costs one refresh and one more request."""
    source = CredentialSource(session(1))
    turns = range(2, 14)  # more than the retry budget: these attempts don't use it
    async with sourced(rigged, source, is_truth_served=False) as rig:
        await rig.run(ID)
        for number in turns:
            rig.upstream.session_token = token(number)
            rig.upstream.lie(ID, expired_but_for(number))
            source.answer(session(number))
            await rig.run(ID)
            await rig.run(ID)
            assert (3, 1) == (rig.upstream.asked[ID], source.asked)


SAME, OTHERS = [session(1)], [session(at) for at in (2, 3, 4)]
NONE = [NOTHING]
EXPIRED_CODE, INVALID_CODE = "ExpiredTokenException", "UnrecognizedClientException"
BOTH = {UNAVAILABLE.name, INVALID.name}  # depends on the last read


@pytest.mark.fault(31)
@pytest.mark.parametrize(
    ("code", "reason", "renewed", "calls", "pages"),
    [
        pytest.param(EXPIRED_CODE, EXPIRED, SAME, 2, {"ok"}, id="expired-same"),
        pytest.param(EXPIRED_CODE, EXPIRED, OTHERS, 2, {"ok"}, id="expired-others"),
        pytest.param(
            EXPIRED_CODE, EXPIRED, NONE, 1, {UNAVAILABLE.name}, id="expired-none"
        ),
        pytest.param(INVALID_CODE, INVALID, SAME, 2, {INVALID.name}, id="invalid-same"),
        pytest.param(
            INVALID_CODE, INVALID, OTHERS, 2, {INVALID.name}, id="invalid-others"
        ),
        pytest.param(INVALID_CODE, INVALID, NONE, 1, BOTH, id="invalid-none"),
    ],
)
async def test_refusal_of_all_credentials_is_reported(
    rigged: Any,
    *,
    code: str,
    reason: Reason,
    renewed: list[bytes],
    calls: int,
    pages: set[str],
) -> None:
    """If AWS refuses the new credentials too, at most one more request is sent."""
    source = CredentialSource(session(1))
    async with sourced(rigged, source, number=9, is_truth_served=False) as rig:
        rig.upstream.lie(ID, said(403, code))
        await source.came.wait()
        source.answer(*renewed)
        refusal = await rig.refusal(ID, reason)
        asked = rig.upstream.asked[ID]
        status, page = await readyz(rig.served)
        source.answer(session(9))
        rig.upstream.lie(ID, expired_but_for(9))
        await rig.run(ID)
        ready = await readyz(rig.served)

    retry = {"RetryInfo"} if reason is EXPIRED else set()
    assert ALWAYS | retry == set(refusal.details)
    assert (code, str(calls)) == code_and_attempts(refusal)
    assert calls == asked
    assert (page.strip() in pages, READY) == (True, ready), page
    assert (200 if pages == {"ok"} else 503) == status
    assert rig.upstream.asked[ID] in (1, 2)  # 1 if already renewed
