"""Many callers over real sockets: shared fetches, the quota and fair shares."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from grpc import StatusCode

from healthomics.v1.run_service_pb2 import GetRunRequest, WatchRunRequest
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.sandbox.quota import TokenBucket
from testkit.builders import ALWAYS, Refusal, aws_at, calling, gateway, get_run, http
from testkit.lying_upstream import (
    CLOSE,
    HANG,
    Answer,
    LyingUpstream,
    Request,
    Wait,
    said,
    true_run,
)
from testkit.rig import Rig

ID = "2000022"
CROWD = 500
CONNECTIONS = 50
PATIENCE_SECONDS = 30.0
FIRST_ID = 5_000_000  # the first of many run IDs
NAME = json.loads(true_run("1"))["name"]


@pytest.fixture
def _uncollected() -> Iterator[None]:
    """Disable garbage collection, which would traverse the test's own calls."""
    gc.disable()
    yield
    gc.enable()


@asynccontextmanager
async def open_stubs(rig: Rig, number: int = CONNECTIONS) -> AsyncIterator[list[Any]]:
    """Open this many connections."""
    own = {"grpc.use_local_subchannel_pool": 1}
    async with AsyncExitStack() as stack:
        stubs = []
        for _ in range(number):
            stubs.append(await stack.enter_async_context(calling(rig.served, **own)))
            # Each is closed in a callback of its own, as closing all takes long.
            stack.push_async_callback(asyncio.sleep, 0)
        yield stubs


async def call_often(rig: Rig, stubs: list[Any], **fields: Any) -> list[Any]:
    """Begin the calls of many callers of one run, and wait until all are accepted."""
    fields.setdefault("timeout", PATIENCE_SECONDS)
    before = rig.served.in_flight
    calls = []
    for at in range(CROWD):
        calls.append(stubs[at % len(stubs)].GetRun(GetRunRequest(id=ID), **fields))
        await asyncio.sleep(0)  # otherwise beginning all calls blocks the event loop
    rig.tally.calls += CROWD
    await until(lambda: rig.served.in_flight >= before + CROWD)
    return calls


async def until(condition: Any) -> None:
    """Poll a condition that has no event."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110  # there is no event
            await asyncio.sleep(0.005)


async def outcome(call: Any) -> str:
    """Return a call's error reason, or the name in its answer."""
    await asyncio.sleep(0)  # otherwise reading all outcomes blocks the event loop
    try:
        run = await call
    except grpc.aio.AioRpcError as error:
        return Refusal(error).reason
    except asyncio.CancelledError:
        return "CANCELLED"
    return str(run.name)


def most_a_second(times: list[float]) -> int:
    """Return the maximum number of times within one second."""
    return max(sum(at <= each < at + 1 for each in times) for at in times)


# One run.


@pytest.mark.guarantee("one-fetch-per-run", "crowds")
@pytest.mark.fault(22)
@pytest.mark.usefixtures("_uncollected")
async def test_concurrent_calls_for_one_run_cost_two_requests(rigged: Any) -> None:
    """All calls that arrive during a fetch share the next one."""
    may_end = asyncio.Event()
    held = [may_end, http(true_run(ID, name="first"))]

    async def ask(rig: Rig) -> list[str]:
        async with open_stubs(rig) as stubs:
            first = stubs[0].GetRun(GetRunRequest(id=ID), timeout=PATIENCE_SECONDS)
            await until(lambda: rig.upstream.asked[ID])
            calls = await call_often(rig, stubs)
            may_end.set()
            return [await outcome(call) for call in (first, *calls)]

    async with rigged() as rig:
        rig.upstream.lie(ID, held, http(true_run(ID, name="second")))
        names = await ask(rig)
        rig.tally.outcomes["OK"] += CROWD
        asked = rig.upstream.asked[ID]

    assert 2 == asked
    assert ["first", *["second"] * CROWD] == names


@pytest.mark.guarantee("fresh-answers")
@pytest.mark.fault(22)
@pytest.mark.usefixtures("_uncollected")
async def test_answer_is_read_by_a_fetch_that_was_sent_after_its_call(
    rigged: Any,
) -> None:
    """A fetch every 200 ms answers all calls; no call gets an older answer."""
    sent: list[float] = []

    def answer(_request: Request) -> Answer:
        sent.append(time.monotonic())
        return [Wait(0.2), http(true_run(ID, name=str(len(sent) - 1)))]

    async def ask(stub: Any) -> tuple[float, int]:
        begun = time.monotonic()
        run = await get_run(stub, ID, seconds=PATIENCE_SECONDS)
        return begun, int(run.name)

    async def ask_all(rig: Rig) -> list[tuple[float, int]]:
        async with open_stubs(rig) as stubs:
            tasks = []
            for at in range(CROWD):
                tasks.append(asyncio.create_task(ask(stubs[at % len(stubs)])))
                await asyncio.sleep(0.002)  # the calls arrive over a second or more
            return await asyncio.gather(*tasks)

    async with rigged() as rig:
        rig.upstream.lie(ID, answer)
        answers = await ask_all(rig)
        rig.tally.calls += CROWD
        rig.tally.outcomes["OK"] += CROWD

    came = [begun for begun, _ in answers]
    assert [] == [at for at, (begun, name) in enumerate(answers) if sent[name] < begun]
    assert len(sent) <= 2 + (max(came) - min(came)) / 0.2


@pytest.mark.guarantee("independent-deadlines")
@pytest.mark.fault(23)
@pytest.mark.usefixtures("_uncollected")
async def test_caller_that_leaves_does_not_end_a_shared_fetch(rigged: Any) -> None:
    """The fetch lasts until its last caller leaves, and is then cancelled."""

    async def ask(rig: Rig) -> tuple[Counter[str], str]:
        async with open_stubs(rig) as stubs:
            calls = await call_often(rig, stubs)
            for call in calls[:-1]:
                call.cancel()
                await asyncio.sleep(0)  # as above
            left = Counter([await outcome(call) for call in calls[:-1]])
            may_end.set()
            return left, await outcome(calls[-1])

    async def leave(rig: Rig) -> Counter[str]:
        async with open_stubs(rig) as stubs:
            calls = await call_often(rig, stubs)
            for call in calls:
                call.cancel()
                await asyncio.sleep(0)  # as above
            return Counter([await outcome(call) for call in calls])

    may_end = asyncio.Event()
    async with rigged() as rig:
        rig.upstream.lie(ID, [may_end, http(true_run(ID, name="kept"))])
        left, kept = await ask(rig)
        rig.upstream.lie(ID, HANG)
        before = rig.upstream.hung_up[ID]
        gone = await leave(rig)
        await until(lambda: rig.upstream.hung_up[ID] - before == rig.upstream.asked[ID])
        rig.tally.outcomes.update(left + gone + Counter(OK=1))
        asked = rig.upstream.asked[ID]

    assert ({"CANCELLED": CROWD - 1}, "kept") == (left, kept)
    assert {"CANCELLED": CROWD} == gone
    assert asked <= 2


@pytest.mark.guarantee("shared-failures")
@pytest.mark.fault(24)
@pytest.mark.usefixtures("_uncollected")
@pytest.mark.parametrize(
    ("answer", "reason", "most"),
    [
        pytest.param(
            said(500, "InternalServerException"), Reason.UPSTREAM_INTERNAL, 6, id="500"
        ),
        pytest.param(
            said(404, "ResourceNotFoundException"), Reason.RUN_NOT_FOUND, 2, id="404"
        ),
        pytest.param(
            said(429, "ThrottlingException"), Reason.UPSTREAM_THROTTLED, 6, id="429"
        ),
    ],
)
async def test_shared_fetch_fails_for_all_its_callers(
    rigged: Any, answer: bytes, reason: Reason, most: int
) -> None:
    """All callers get the one failure, after the attempts of a single call."""
    may_end = asyncio.Event()

    async def ask(rig: Rig) -> Counter[str]:
        async with open_stubs(rig) as stubs:
            calls = await call_often(rig, stubs)
            may_end.set()
            return Counter([await outcome(call) for call in calls])

    async with rigged() as rig:
        rig.upstream.lie(ID, [may_end, answer], answer)
        ends = await ask(rig)
        rig.tally.outcomes.update(ends)
        asked = rig.upstream.asked[ID]

    assert {reason.name: CROWD} == ends
    assert asked <= most


@pytest.mark.guarantee("independent-deadlines")
@pytest.mark.fault(24)
async def test_caller_of_a_shared_fetch_has_its_own_deadline(rigged: Any) -> None:
    """While HealthOmics hangs, each caller waits until its own deadline."""
    seconds = (0.05, 0.2, 0.4, 0.8)
    async with rigged(GATEWAY_DEFAULT_DEADLINE="1s") as rig:
        rig.upstream.lie(ID, HANG)

        async def lasted(own: float) -> float:
            begun = time.monotonic()
            call = rig.stub.GetRun(GetRunRequest(id=ID), timeout=own)
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await call
            assert StatusCode.DEADLINE_EXCEEDED is error.value.code()
            rig.tally.outcomes["DEADLINE_EXCEEDED (core)"] += 1
            return time.monotonic() - begun

        waits = await asyncio.gather(*map(lasted, seconds))
        rig.tally.calls += len(seconds)
        await rig.refused(get_run(rig.stub, ID, seconds=None), Reason.SERVER_DEADLINE)

    assert [] == [(a, b) for a, b in zip(seconds, waits, strict=True) if b > a + 0.5]


@pytest.mark.guarantee("errors-not-cached")
@pytest.mark.fault(28)
async def test_error_is_not_cached(rigged: Any) -> None:
    """After a 404 the next call returns the run, whatever staleness it allows."""
    stale = {"max_staleness": Duration(seconds=60)}
    async with rigged() as rig:
        rig.upstream.lie(ID, said(404, "ResourceNotFoundException"))
        await rig.refusal(ID, Reason.RUN_NOT_FOUND, **stale)
        rig.upstream.lie(ID, http(true_run(ID, name="new")))
        run = await rig.run(ID, **stale)

    assert "new" == run.name


@pytest.mark.fault(29)
async def test_reused_id_is_cached_only_within_max_staleness(
    rigged: Any,
) -> None:
    """The old run is returned only to a call whose `max_staleness` allows it."""
    async with rigged() as rig:
        rig.upstream.lie(ID, http(true_run(ID, uuid="1", status="COMPLETED")))
        assert "1" == (await rig.run(ID)).uuid
        rig.upstream.lie(ID, http(true_run(ID, uuid="2")))
        old = await rig.run(ID, max_staleness=Duration(seconds=60))
        young = await rig.run(ID, max_staleness=Duration(nanos=1))
        fresh = await rig.run(ID)
        then = await rig.run(ID, max_staleness=Duration(seconds=60))

    assert ["1", "2", "2", "2"] == [each.uuid for each in (old, young, fresh, then)]


# Many runs, and one quota.


class Account:
    """A fake account that answers this many requests a second, and throttles others."""

    def __init__(self, *, tps: float) -> None:
        """Begin with a full bucket."""
        self.bucket = TokenBucket(
            rate_per_second=tps, depth=tps, monotonic=time.monotonic
        )
        self.asked: list[float] = []
        self.throttled: list[float] = []

    def answer(self, request: Request) -> Answer:
        """Return HealthOmics' answer."""
        now = time.monotonic()
        self.asked.append(now)
        if not self.bucket.take():
            self.throttled.append(now)
            return said(429, "ThrottlingException")
        return http(true_run(request.run_id))


@pytest.mark.guarantee("quota-limit")
@pytest.mark.fault(25)
async def test_quota_is_used_and_never_exceeded(rigged: Any) -> None:
    """Of 100 calls a second eight are answered, and the others are refused soon."""
    account = Account(tps=10)
    refusals: list[tuple[float, Refusal]] = []
    answered: list[float] = []

    async def ask(rig: Rig, at: int) -> None:
        begun = time.monotonic()
        try:
            await get_run(rig.stub, str(FIRST_ID + at), seconds=2.0)
            answered.append(time.monotonic())
        except grpc.aio.AioRpcError as error:
            refusals.append((time.monotonic() - begun, Refusal(error)))

    async with (
        LyingUpstream(truth=account.answer) as upstream,
        rigged(
            upstream=upstream,
            is_truth_served=False,
            GATEWAY_QUOTA__TPS="8",
            GATEWAY_QUOTA__BURST="2",
        ) as rig,
    ):
        begun = time.monotonic()
        asking = []
        for at in range(400):
            await asyncio.sleep(max(0.0, begun + at / 100 - time.monotonic()))
            asking.append(asyncio.create_task(ask(rig, at)))
        await asyncio.gather(*asking)
        lasted = max(answered) - begun
        rig.tally.calls += 400
        # A busy machine may answer later than the 20 ms before the deadline that the
        # gateway leaves; then the client's own library ends the call.
        late = [each.code for _, each in refusals if not each.details]
        refused = [(seconds, each) for seconds, each in refusals if each.details]
        rig.tally.outcomes.update(each.reason for _, each in refused)
        rig.tally.outcomes["DEADLINE_EXCEEDED (core)"] += len(late)
        rig.tally.outcomes["OK"] += len(answered)

    # `make crowds` checks how even and fast it is: this machine may be busy.
    assert len(account.asked) <= 8 * (lasted + 0.5) + 2
    assert len(answered) >= 0.5 * 8 * lasted
    assert len(late) <= 0.1 * len(refused)
    assert {grpc.StatusCode.DEADLINE_EXCEEDED} >= set(late)
    assert {Reason.UPSTREAM_THROTTLED.name} == {each.reason for _, each in refused}
    details = [set(each.details) for _, each in refused]
    assert [ALWAYS | {"RetryInfo", "QuotaFailure"}] * len(details) == details
    assert {"true"} == {each.metadata["local"] for _, each in refused}
    waits = sorted(seconds for seconds, _ in refusals)
    assert waits[len(waits) // 2] < 1.0  # of a deadline of 2 s


@pytest.mark.guarantee("quota-at-send")
@pytest.mark.fault(25)
@pytest.mark.usefixtures("_uncollected")
async def test_rate_holds_after_a_stall_of_healthomics(rigged: Any) -> None:
    """Calls that waited during a stall are sent at the rate, not at once."""
    may_end = asyncio.Event()
    ids = [str(FIRST_ID + at) for at in range(90)]
    async with (
        LyingUpstream() as upstream,
        rigged(
            upstream=upstream,
            is_truth_served=False,
            GATEWAY_QUOTA__TPS="100",
            GATEWAY_QUOTA__BURST="2",
            GATEWAY_UPSTREAM__MAX_CONCURRENT="4",
        ) as rig,
    ):
        for run_id in ids:
            upstream.lie(run_id, lambda each: [may_end, http(true_run(each.run_id))])
        calls = [asyncio.create_task(rig.run(each, seconds=30.0)) for each in ids]
        await asyncio.sleep(0.85)
        asked = len(upstream.requests)
        may_end.set()
        await asyncio.gather(*calls)

    assert 4 == asked
    assert {} == upstream.arrivals.excess


@pytest.mark.guarantee("quota-at-send")
@pytest.mark.fault(25)
async def test_replays_count_towards_the_rate(rigged: Any) -> None:
    """The replay of a request that a reused connection lost counts as a request."""
    answer = http(true_run(ID))
    async with (
        LyingUpstream() as upstream,
        rigged(
            upstream=upstream,
            is_truth_served=False,
            GATEWAY_QUOTA__TPS="20",
            GATEWAY_QUOTA__BURST="2",
        ) as rig,
    ):
        upstream.lie(ID, *[answer, [CLOSE], answer] * 15)
        for _ in range(30):
            await rig.run(ID)

    assert 45 == upstream.asked[ID]
    assert {} == upstream.arrivals.excess


@pytest.mark.guarantee("adaptive-rate")
@pytest.mark.fault(26)
async def test_rate_adapts_to_other_users_of_the_account(rigged: Any) -> None:
    """If less than the quota is left, few requests are throttled after a while."""
    account = Account(tps=5)
    ids = count(FIRST_ID)

    async def ask(rig: Rig, until: float) -> None:
        while time.monotonic() < until:
            call = rig.stub.GetRun(GetRunRequest(id=str(next(ids))), timeout=5)
            rig.tally.calls += 1
            rig.tally.outcomes[
                "OK" if (name := await outcome(call)) == NAME else name
            ] += 1

    async with (
        LyingUpstream(truth=account.answer) as upstream,
        rigged(
            upstream=upstream,
            is_truth_served=False,
            GATEWAY_QUOTA__TPS="20",
            GATEWAY_QUOTA__BURST="1",
        ) as rig,
    ):
        begun = time.monotonic()
        await asyncio.gather(*(ask(rig, begun + 7) for _ in range(8)))

    early = [at for at in account.asked if at < begun + 1]
    late = [at for at in account.asked if at > begun + 5]
    throttled = [at for at in account.throttled if at > begun + 5]
    assert most_a_second(late) < len(early)
    assert len(throttled) <= 0.35 * len(late)


@pytest.mark.guarantee("fair-shares")
@pytest.mark.fault(27)
async def test_scanner_does_not_delay_a_caller_of_one_run(rigged: Any) -> None:
    """While a connection requests all runs, each call of another is answered."""
    deadline_seconds = 2.0

    async def scan(stub: Any) -> None:
        for at in count():
            call = stub.GetRun(GetRunRequest(id=str(FIRST_ID + at)), timeout=10)
            scanning.append(asyncio.create_task(outcome(call)))
            await asyncio.sleep(0.005)  # 200 calls a second

    async def poll(rig: Rig) -> int:
        async with open_stubs(rig, 2) as (mine, others):
            scanner = asyncio.create_task(scan(others))
            await until(lambda: rig.served.in_flight > 50)
            for _ in range(10):
                await get_run(mine, ID, seconds=deadline_seconds)
            scanner.cancel()
            for each in scanning:
                each.cancel()
            ends = await asyncio.gather(*scanning, return_exceptions=True)
            scanning.clear()  # otherwise they keep their connection open
            return Counter(map(str, ends))[Reason.UPSTREAM_THROTTLED.name]

    scanning: list[asyncio.Task[str]] = []
    async with rigged(
        GATEWAY_QUOTA__TPS="10", GATEWAY_QUOTA__BURST="2", is_truth_served=False
    ) as rig:
        refused_scans = await poll(rig)
        rig.tally.calls += 10
        rig.tally.outcomes["OK"] += 10

    assert refused_scans


BOUND = """
[[callers]]
identity = "anonymous"
methods = ["WatchRun"]
run_groups = ["1234567"]
"""


@pytest.mark.guarantee("watch-share")
@pytest.mark.parametrize("toml", ["", BOUND], ids=["polls", "first-looks"])
async def test_polls_and_first_fetches_stay_within_their_share(toml: str) -> None:
    """However many runs are watched, all polls stay within the watches' share."""
    asked: list[float] = []

    def answer(request: Request) -> Answer:
        asked.append(time.monotonic())
        return http(true_run(request.run_id, runGroupId="1234567"))

    environ = {
        "GATEWAY_QUOTA__TPS": "50",
        "GATEWAY_QUOTA__BURST": "10",
        "GATEWAY_WATCH__QUOTA_SHARE": "0.1",
    }
    async with (
        LyingUpstream(truth=answer) as upstream,
        gateway(aws_at(upstream.url), toml=toml, **environ) as served,
        calling(served) as stub,
    ):
        begun = time.monotonic()
        ids = [str(FIRST_ID + at) for at in range(40)]
        watches = [stub.WatchRun(WatchRunRequest(id=each)) for each in ids]
        first = [asyncio.create_task(each.read()) for each in watches]
        await asyncio.wait_for(wait_for_some(first, 6), PATIENCE_SECONDS)
        lasted = time.monotonic() - begun
        for each in watches:
            each.cancel()
        await asyncio.gather(*first, return_exceptions=True)

    assert 6 <= len([at for at in asked if at <= begun + lasted]) <= 5 * lasted + 2


async def wait_for_some(tasks: list[Any], number: int) -> None:
    """Wait until this many tasks are done."""
    for done, each in enumerate(asyncio.as_completed(tasks), start=1):
        await each
        if done == number:
            return
