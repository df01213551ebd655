"""A clock that is wrong: HealthOmics refuses signatures as too old or too new."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from healthomics_gateway.errors.reasons import Reason
from testkit.builders import ALWAYS, http
from testkit.clocks import OffsetClock
from testkit.lying_upstream import Answer, LyingUpstream, Request, said, true_run
from unit.app.test_gateway import readyz

ID = "2000032"
OTHER_IDS = ("2000132", "2000232")
OFF = timedelta(minutes=20)
OFF_BOTH_WAYS = pytest.mark.parametrize(
    "off", [pytest.param(OFF, id="behind"), pytest.param(-OFF, id="ahead")]
)
SKEWED = "RequestTimeTooSkewed"  # one of AWS's codes for a wrong clock
SIGNATURE = "InvalidSignatureException"
READY = (200, "ok\n")


def signature_faults(upstream: LyingUpstream) -> list[str]:
    """Return the fault in the signature of each request about the test's run."""
    return [each.fault for each in upstream.requests if each.run_id == ID]


def verifying(code: str, date: Callable[[], str | None]) -> Callable[[Request], Answer]:
    """Refuse invalid signatures with `code`, and with a Date header if given."""

    def answer(request: Request) -> Answer:
        if not request.fault:
            return http(true_run(request.run_id))
        sent = date()
        return said(403, code, **({} if sent is None else {"date": sent}))

    return answer


@pytest.mark.guarantee("clock-skew")
@pytest.mark.fault(32)
@OFF_BOTH_WAYS
async def test_wrong_clock_is_corrected_once(rigged: Any, off: timedelta) -> None:
    """The first call is signed again with AWS's time, and later calls use that time."""
    async with (
        LyingUpstream(now=OffsetClock(off)) as upstream,
        rigged(upstream=upstream, is_truth_served=False) as rig,
    ):
        for run_id in (ID, ID, *OTHER_IDS):
            await rig.run(run_id)
        ready = await readyz(rig.served)

    assert [SIGNATURE, "", ""] == signature_faults(upstream)
    assert [3, 1, 1] == [upstream.asked[each] for each in (ID, *OTHER_IDS)]
    assert READY == ready


@pytest.mark.guarantee("clock-skew")
@pytest.mark.fault(32)
@OFF_BOTH_WAYS
async def test_offset_is_dropped_when_the_clock_is_right_again(
    rigged: Any, off: timedelta
) -> None:
    """One call is signed again without the offset; later calls are right at once."""
    clock = OffsetClock(off)
    async with (
        LyingUpstream(now=clock) as upstream,
        rigged(upstream=upstream, is_truth_served=False) as rig,
    ):
        await rig.run(ID)
        clock.offset = timedelta()
        for run_id in (ID, ID, *OTHER_IDS):
            await rig.run(run_id)
        signed_at = upstream.requests[-1].headers["x-amz-date"]

    assert [SIGNATURE, "", SIGNATURE, "", ""] == signature_faults(upstream)
    assert [1, 1] == [upstream.asked[each] for each in OTHER_IDS]
    at = datetime.strptime(signed_at, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    assert abs(datetime.now(UTC) - at) < timedelta(minutes=1)


@pytest.mark.fault(32)
async def test_changing_clock_is_followed(rigged: Any) -> None:
    """Each change of the clock, forward or back, costs one more request."""
    clock = OffsetClock()
    turns = 12  # more than the retry budget: these attempts don't use it
    async with (
        LyingUpstream(now=clock) as upstream,
        rigged(upstream=upstream, is_truth_served=False) as rig,
    ):
        for turn in range(turns):
            clock.offset = OFF if turn % 2 else -OFF
            await rig.run(ID)
            await rig.run(ID)

    assert [SIGNATURE, "", ""] * turns == signature_faults(upstream)


@pytest.mark.fault(32)
async def test_calls_in_flight_are_corrected_once_each(rigged: Any) -> None:
    """If the clock jumps during a hundred calls, each makes one more request."""
    ids = [str(3_200_000 + at) for at in range(100)]
    clock = OffsetClock()
    async with (
        LyingUpstream(now=clock) as upstream,
        rigged(upstream=upstream) as rig,
    ):
        clock.offset = OFF
        runs = await asyncio.gather(*(rig.run(each) for each in ids))

    assert ids == [run.id for run in runs]
    assert {1, 2} >= {upstream.asked[each] for each in ids}
    last = {each.run_id: each.fault for each in upstream.requests}
    assert {""} == set(last.values())


@pytest.mark.fault(32)
@pytest.mark.parametrize(
    "code",
    [
        SKEWED,
        "RequestExpired",
        "RequestInTheFuture",
        SIGNATURE,
        "SignatureDoesNotMatch",
    ],
)
async def test_each_code_of_a_wrong_clock_is_understood(rigged: Any, code: str) -> None:
    """After each of AWS's codes the second request has the response's time."""
    clock = OffsetClock(OFF)
    async with (
        LyingUpstream(now=clock) as upstream,
        rigged(upstream=upstream, is_truth_served=False) as rig,
    ):
        upstream.lie(ID, verifying(code, clock.date))
        run = await rig.run(ID)

    assert (ID, [SIGNATURE, ""]) == (run.id, signature_faults(upstream))


NO_DATE = [
    pytest.param(None, id="none"),
    pytest.param("", id="empty"),
    pytest.param("twenty past", id="words"),
    pytest.param("0", id="number"),
    pytest.param("Thu, 99 Jan 2026 03:04:05 GMT", id="no-such-day"),
    pytest.param("Wed, 01 Jan 1800 00:00:00 GMT", id="year-1800"),
    pytest.param("Fri, 31 Dec 9999 23:59:59 GMT", id="year-9999"),
    pytest.param("Fri, 02 Jan 2026 03:04:05 +9999", id="no-such-zone"),
]


@pytest.mark.fault(32)
@pytest.mark.parametrize("date", NO_DATE)
@pytest.mark.parametrize(
    ("code", "reason", "calls"),
    [
        pytest.param(SKEWED, Reason.GATEWAY_CLOCK_SKEW, 2, id="skewed"),
        pytest.param(SIGNATURE, Reason.GATEWAY_SIGNATURE_REJECTED, 1, id="signature"),
    ],
)
async def test_wrong_clock_without_a_date_is_an_error(
    rigged: Any, code: str, reason: Reason, calls: int, date: str | None
) -> None:
    """If AWS sends no date, nothing is corrected and few requests are sent."""
    async with (
        LyingUpstream(now=OffsetClock(OFF)) as upstream,
        rigged(upstream=upstream, is_truth_served=False) as rig,
    ):
        upstream.lie(ID, verifying(code, lambda: date))
        refusal = await rig.refusal(ID, reason)
        ready = await readyz(rig.served)

    assert [SIGNATURE] * calls == signature_faults(upstream)
    retry = {"RetryInfo"} if reason is Reason.GATEWAY_CLOCK_SKEW else set()
    assert ALWAYS | retry == set(refusal.details)
    facts = refusal.metadata
    assert (code, "403", str(calls)) == (
        facts["awsErrorCode"],
        facts["httpStatus"],
        facts["attempts"],
    )
    assert READY == ready


@pytest.mark.fault(32)
@pytest.mark.parametrize(
    ("code", "reason", "calls"),
    [
        pytest.param(SKEWED, Reason.GATEWAY_CLOCK_SKEW, 2, id="skewed"),
        pytest.param(SIGNATURE, Reason.GATEWAY_SIGNATURE_REJECTED, 2, id="signature"),
    ],
)
async def test_wrong_date_is_used_once(
    rigged: Any, code: str, reason: Reason, calls: int
) -> None:
    """A wrong date is used for one request; the next correct one fixes the offset."""
    clock = OffsetClock()
    lie = OffsetClock(OFF)
    async with (
        LyingUpstream(now=clock) as upstream,
        rigged(upstream=upstream, is_truth_served=False) as rig,
    ):
        upstream.lie(ID, lambda _: said(403, code, date=lie.date()))
        await rig.refusal(ID, reason)
        faults = signature_faults(upstream)
        upstream.requests.clear()
        upstream.lie(ID, verifying(code, clock.date))
        await rig.run(ID)
        await rig.run(ID)

    assert ["", SIGNATURE] == faults
    assert calls == len(faults)
    assert [SIGNATURE, "", ""] == signature_faults(upstream)
