"""Watches over real sockets, of runs that change, fail, disappear and reappear."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from itertools import islice
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from grpc import StatusCode

from healthomics.v1.run_pb2 import Run
from healthomics.v1.run_service_pb2 import WatchRunRequest
from healthomics_gateway.errors.reasons import Reason
from load.attackers import Attacker
from load.attacks import ATTACKS, FIRST_ID
from testkit.builders import ALWAYS, Refusal, calling, http
from testkit.lying_upstream import HANG, RESET, Answer, said, true_run
from testkit.rig import Rig

ID = "2000038"
INTERVAL_SECONDS = 0.1
QUICK = {"GATEWAY_WATCH__INTERVAL": "100ms", "GATEWAY_WATCH__MIN_INTERVAL": "10ms"}
CROWD = 500  # `make crowds` uses thousands
PATIENCE_SECONDS = 20.0
PER_CONNECTION = 250  # of at most 500 streams


class ChangingRun:
    """A run whose state the test sets."""

    def __init__(self, rig: Rig, run_id: str = ID, **members: object) -> None:
        """Begin with this state."""
        self._rig = rig
        self._id = run_id
        self.be(**members)

    def be(self, **members: object) -> None:
        """Change to this state."""
        self.answer_with(http(true_run(self._id, **members)))

    def answer_with(self, answer: Answer) -> None:
        """Return this answer from now on."""
        asked = self._rig.upstream.asked[self._id]
        self._rig.upstream.lie(self._id, answer)
        self._rig.upstream.asked[self._id] = asked

    async def asked(self, more: int) -> None:
        """Wait until this many more requests have been received."""
        enough = self._rig.upstream.asked[self._id] + more
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self._rig.upstream.asked[self._id] < enough:  # noqa: ASYNC110  # nor has the upstream
                await asyncio.sleep(0.01)


async def states(call: Any) -> list[Run]:
    """Return the states of a watch until it ends with OK."""
    seen = []
    while (response := await call.read()) is not grpc.aio.EOF:
        seen.append(response.run)
    return seen


async def names(call: Any) -> list[str]:
    """Return the names in the states of a watch until it ends with OK."""
    return [each.name for each in await states(call)]


async def has_left(rig: Rig) -> None:
    """Wait until no call is under way."""
    async with asyncio.timeout(5):
        while rig.served.in_flight:  # noqa: ASYNC110  # the gateway has no event for it
            await asyncio.sleep(0.01)


async def ended(rig: Rig, call: Awaitable[Any], reason: Reason) -> Refusal:
    """Await a watch that must end for `reason`."""
    return await rig.refused(call, reason, seconds=PATIENCE_SECONDS)


def watch(stub: Any, run_id: str = ID, **fields: Any) -> Any:
    """Begin a watch."""
    return stub.WatchRun(WatchRunRequest(id=run_id, **fields), timeout=PATIENCE_SECONDS)


@pytest.fixture
def _uncollected() -> Iterator[None]:
    """Disable garbage collection, which would traverse the clients' calls."""
    gc.disable()
    yield
    gc.enable()


async def watch_often(stack: AsyncExitStack, rig: Rig) -> list[Any]:
    """Begin this many watches, on as many connections as they need."""
    own = {"grpc.use_local_subchannel_pool": 1}
    opened = [
        await stack.enter_async_context(calling(rig.served, **own))
        for _ in range(-(-CROWD // PER_CONNECTION))
    ]
    calls = []
    for at in range(CROWD):
        calls.append(watch(opened[at % len(opened)]))
        await asyncio.sleep(0)  # otherwise beginning all watches blocks the event loop
    rig.tally.calls += CROWD
    return calls


@pytest.mark.guarantee("watch-states", "crowds")
@pytest.mark.fault(38)
@pytest.mark.usefixtures("_uncollected")
async def test_all_watchers_of_a_run_see_every_state(rigged: Any) -> None:
    """Hundreds of watchers cost one poller; each sees all states in order, once."""
    steps = ["a", "b", "c", "d"]
    async with rigged(**QUICK) as rig:
        life = ChangingRun(rig, name=steps[0])
        begun = time.monotonic()

        async def live() -> None:
            for name in steps[1:]:
                await life.asked(2)
                life.be(name=name)
            await life.asked(2)
            life.be(name="e", status="COMPLETED")

        async def follow() -> list[list[str]]:
            async with AsyncExitStack() as stack:
                calls = await watch_often(stack, rig)
                firsts = [(await call.read()).run.name for call in calls]
                living = asyncio.create_task(live())
                rests = []
                for at, call in enumerate(calls):
                    rests.append(await names(call))
                    calls[at] = None  # closed one by one, not all at once
                    await asyncio.sleep(0)
                del call
                await living
                return [[a, *b] for a, b in zip(firsts, rests, strict=True)]

        seen = await follow()
        lasted = time.monotonic() - begun
        rig.tally.outcomes["OK"] += CROWD
        asked = rig.upstream.asked[ID]

    assert [[*steps, "e"]] * CROWD == seen
    assert asked <= lasted / INTERVAL_SECONDS + 2


@pytest.mark.guarantee("slow-watchers")
@pytest.mark.fault(39)
async def test_slow_watcher_gets_the_newest_state(rigged: Any) -> None:
    """A slow reader delays no other, and skips old states."""
    big = "x" * 60_000  # two of these fill a stream's flow-control window
    fixed = {"grpc.http2.bdp_probe": 0, "grpc.http2.lookahead_bytes": 65_536}
    own = {"grpc.use_local_subchannel_pool": 1}
    async with (
        rigged(**QUICK | {"GATEWAY_WATCH__INTERVAL": "20ms"}) as rig,
        calling(rig.served, **fixed, **own) as elsewhere,
    ):
        life = ChangingRun(rig, name="0", definition=big)
        slow, fast = watch(elsewhere), watch(rig.stub)
        rig.tally.calls += 2
        assert "0" == (await slow.read()).run.name
        seen = [(await fast.read()).run.name]
        for at in range(1, 20):
            life.be(name=str(at), definition=big)
            seen.append((await fast.read()).run.name)
        life.be(name="20", definition=big, status="FAILED")
        seen += await names(fast)
        late = await names(slow)
        del slow  # otherwise it keeps its connection open
        rig.tally.outcomes["OK"] += 2

    assert [str(at) for at in range(21)] == seen
    assert "20" == late[-1]
    assert [*dict.fromkeys(late)] == late  # without duplicates
    assert len(late) < 15


@pytest.mark.guarantee("watch-failures")
@pytest.mark.fault(40)
async def test_watch_outlasts_transient_failures(rigged: Any) -> None:
    """A transient failure isn't sent, and the next state follows it."""
    answers: dict[str, Answer] = {
        "2000040": said(429, "ThrottlingException"),
        "2000041": said(500, "InternalServerException"),
        "2000042": [b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", HANG],
        "2000043": RESET,
    }
    async with rigged(
        GATEWAY_UPSTREAM__ATTEMPT_TIMEOUT="300ms",
        GATEWAY_UPSTREAM__CONNECT_TIMEOUT="300ms",
        **QUICK,
    ) as rig:

        async def seen(run_id: str, answer: Answer) -> list[str]:
            life = ChangingRun(rig, run_id, name="a")
            call = watch(rig.stub, run_id)
            rig.tally.calls += 1
            first = (await call.read()).run.name
            life.answer_with(answer)
            await life.asked(1)
            life.be(name="b", status="COMPLETED")
            rest = await names(call)
            rig.tally.outcomes["OK"] += 1
            return [first, *rest]

        states = await asyncio.gather(*(seen(*each) for each in answers.items()))

    assert [["a", "b"]] * len(answers) == states


@pytest.mark.guarantee("watch-failures")
@pytest.mark.fault(40)
@pytest.mark.parametrize(
    ("answer", "reason", "details"),
    [
        pytest.param(
            said(403, "AccessDeniedException"),
            Reason.UPSTREAM_ACCESS_DENIED,
            set(),
            id="refused",
        ),
        pytest.param(
            said(404, "ResourceNotFoundException"),
            Reason.RUN_NOT_FOUND,
            {"ResourceInfo"},
            id="gone",
        ),
        pytest.param(
            http(true_run(ID, uuid="2")),
            Reason.RUN_REPLACED,
            {"ResourceInfo"},
            id="new",
        ),
    ],
)
@pytest.mark.parametrize("is_seen", [True, False], ids=["seen", "never-seen"])
async def test_watch_ends_if_its_run_is_lost(
    rigged: Any, answer: Answer, reason: Reason, details: set[str], *, is_seen: bool
) -> None:
    """A refusal, a 404 or another run with the ID ends each watch once."""
    async with rigged(**QUICK) as rig:
        life = ChangingRun(rig, uuid="1")
        if not is_seen:
            life.answer_with(answer)
        call = watch(rig.stub, uuid="1")
        if is_seen:
            assert "1" == (await call.read()).run.uuid
            life.answer_with(answer)
        refusal = await ended(rig, names(call), reason)

    assert ALWAYS | details == set(refusal.details)
    assert ID == refusal.metadata["runId"]
    assert "1" == refusal.metadata["attempts"]


@pytest.mark.guarantee("abandoned-watches")
@pytest.mark.fault(41)
@pytest.mark.usefixtures("_uncollected")
async def test_watchers_that_leave_end_the_polls(
    rigged: Any,
) -> None:
    """After hundreds leave, no poll is sent; when they return, one poller polls."""
    async with rigged(**QUICK) as rig:
        life = ChangingRun(rig, name="a")
        begun = time.monotonic()

        async def come_and_go() -> set[StatusCode]:
            async with AsyncExitStack() as stack:
                calls = await watch_often(stack, rig)
                for call in calls:
                    await call.read()
                for call in calls:
                    call.cancel()
                    await asyncio.sleep(0)  # as above
                codes = set()
                while calls:  # closed one by one
                    codes.add(await calls.pop().code())
                    await asyncio.sleep(0)
                return codes

        for _ in range(2):
            assert {StatusCode.CANCELLED} == await come_and_go()
            rig.tally.outcomes["CANCELLED"] += CROWD
        await has_left(rig)
        lasted = time.monotonic() - begun
        asked = rig.upstream.asked[ID]
        await asyncio.sleep(3 * INTERVAL_SECONDS)  # long enough for a poll
        then = rig.upstream.asked[ID]
        life.be(name="b", status="FAILED")
        again = await names(watch(rig.stub))

    assert asked <= lasted / INTERVAL_SECONDS + 4
    assert asked == then
    assert ["b"] == again


@pytest.mark.fault(29)
async def test_reused_id_ends_the_watch_of_the_old_run(rigged: Any) -> None:
    """The new run is visible at once, and a watch of the old one ends."""
    async with rigged(**QUICK) as rig:
        life = ChangingRun(rig, uuid="1")
        old = watch(rig.stub)
        assert "1" == (await old.read()).run.uuid
        life.answer_with(said(404, "ResourceNotFoundException"))
        await ended(rig, names(old), Reason.RUN_NOT_FOUND)
        await rig.refusal(ID, Reason.RUN_NOT_FOUND)
        life.be(uuid="2", status="RUNNING")
        assert "2" == (await rig.run(ID)).uuid
        await ended(rig, names(watch(rig.stub, uuid="1")), Reason.RUN_REPLACED)
        new = watch(rig.stub, uuid="2")
        assert "2" == (await new.read()).run.uuid
        new.cancel()


# Watches beyond the numbered cases.


async def test_watch_is_renewed_after_its_time(rigged: Any) -> None:
    """The stream ends with WATCH_RENEW, and the next one resumes by the uuid."""
    async with rigged(GATEWAY_WATCH__MAX_STREAM="300ms", **QUICK) as rig:
        ChangingRun(rig, uuid="1")
        call = watch(rig.stub)
        assert "1" == (await call.read()).run.uuid
        refusal = await ended(rig, names(call), Reason.WATCH_RENEW)
        again = watch(rig.stub, uuid="1")
        assert "1" == (await again.read()).run.uuid
        again.cancel()

    assert ALWAYS | {"RetryInfo"} == set(refusal.details)


async def test_deadline_ends_a_watch(rigged: Any) -> None:
    """A watch ends at its caller's deadline, and is logged as that."""
    async with rigged(**QUICK) as rig:
        ChangingRun(rig)
        call = rig.stub.WatchRun(WatchRunRequest(id=ID), timeout=0.3)
        await call.read()
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await names(call)
        too_short = rig.stub.WatchRun(WatchRunRequest(id=ID), timeout=0.001)
        with pytest.raises(grpc.aio.AioRpcError) as at_once:
            await names(too_short)
        await has_left(rig)
        reasons = {each.get("reason") for each in rig.log if each.get("runId") == ID}

    assert StatusCode.DEADLINE_EXCEEDED == error.value.code() == at_once.value.code()
    assert "CALLER_DEADLINE" in reasons


async def test_invalid_watch_request_is_refused(rigged: Any) -> None:
    """Every fault of the request is named, and no request is sent."""
    async with rigged() as rig:
        request = WatchRunRequest(
            id="none",
            min_interval={"seconds": -1},
            read_mask=FieldMask(paths=["id", "nothing"]),
            heartbeat_interval={"nanos": 999_999_999},
        )
        refusal = await ended(
            rig, names(rig.stub.WatchRun(request)), Reason.INVALID_REQUEST
        )
        mixed = WatchRunRequest(id=ID, min_interval={"seconds": 1, "nanos": -1})
        await ended(rig, names(rig.stub.WatchRun(mixed)), Reason.INVALID_REQUEST)
        for seconds in (0, 3601):
            rare = WatchRunRequest(id=ID, heartbeat_interval={"seconds": seconds})
            await ended(rig, names(rig.stub.WatchRun(rare)), Reason.INVALID_REQUEST)

    bad = refusal.details["BadRequest"].field_violations  # type: ignore[attr-defined]
    expected = ["id", "min_interval", "read_mask.paths[1]", "heartbeat_interval"]
    assert expected == [each.field for each in bad]


async def test_silent_watch_sends_heartbeats(rigged: Any) -> None:
    """A heartbeat has no run; the next state follows as usual."""
    async with rigged(**QUICK) as rig:
        life = ChangingRun(rig, name="a")
        call = watch(rig.stub, heartbeat_interval={"seconds": 1})
        first, beat = await call.read(), await call.read()
        life.be(name="b", status="COMPLETED")
        rest = await names(call)

    assert "a" == first.run.name
    assert not beat.HasField("run")
    assert "b" == rest[-1]


async def test_watch_sends_only_masked_members(rigged: Any) -> None:
    """Only a change of selected members is sent; withheld members never are."""
    async with rigged(GATEWAY_WITHHOLD="digest", **QUICK) as rig:
        life = ChangingRun(rig, name="a", digest="1", priority=1)
        mask = FieldMask(paths=["name", "digest"])
        call = watch(rig.stub, read_mask=mask)
        first = (await call.read()).run
        life.be(name="a", digest="2", priority=2)
        await life.asked(2)
        life.be(name="b", digest="2", priority=2, status="COMPLETED")
        rest = await states(call)

    for each in (first, *rest):
        assert each.HasField("observe_time")
        each.ClearField("observe_time")
    assert [Run(name="a"), Run(name="b")] == [first, *rest]


async def test_watch_has_its_own_interval(rigged: Any) -> None:
    """A watch with a shorter interval is polled sooner than by default."""
    async with rigged(
        GATEWAY_WATCH__INTERVAL="1h", GATEWAY_WATCH__MIN_INTERVAL="10ms"
    ) as rig:
        life = ChangingRun(rig)
        call = watch(rig.stub, min_interval={"nanos": 50_000_000})
        await call.read()
        await life.asked(3)
        call.cancel()


async def test_watch_interval_has_a_minimum(
    rigged: Any,
) -> None:
    """For an interval below the operator's minimum, the minimum is used."""
    async with rigged(
        GATEWAY_WATCH__INTERVAL="1h", GATEWAY_WATCH__MIN_INTERVAL="1h"
    ) as rig:
        ChangingRun(rig)
        call = watch(rig.stub, min_interval={"nanos": 10_000_000})
        await call.read()
        await asyncio.sleep(0.3)  # long enough for thirty polls
        call.cancel()
        asked = rig.upstream.asked[ID]

    assert 1 == asked


@pytest.mark.guarantee("unread-watches")
async def test_unread_watches_end_at_their_time_limit(rigged: Any) -> None:
    """Their places become free although the client reads nothing."""
    attack = replace(ATTACKS["watches-zero"], rate=100.0)
    async with rigged(
        GATEWAY_WATCH__MAX_OPEN="4", GATEWAY_WATCH__MAX_STREAM="1s", **QUICK
    ) as rig:
        ChangingRun(rig, str(FIRST_ID), definition="x" * 90_000)
        attacker = Attacker(
            replace(attack, units=as_many_as_places), str(rig.served.address)
        )
        attacking = asyncio.create_task(attacker.run(PATIENCE_SECONDS))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while rig.served.in_flight < 4:  # noqa: ASYNC110  # the gateway has no event for it
                await asyncio.sleep(0.01)
        await has_left(rig)
        call = watch(rig.stub, str(FIRST_ID))
        assert str(FIRST_ID) == (await call.read()).run.id
        call.cancel()
        attacking.cancel()


def as_many_as_places(number: int) -> Iterator[bytes]:
    """Begin as many watches of one run as there are places."""
    return islice(ATTACKS["watches-zero"].units(number), 4)


async def test_watches_over_the_limit_are_refused(rigged: Any) -> None:
    """They get a retry delay, and GetRun calls aren't affected."""
    async with rigged(GATEWAY_WATCH__MAX_OPEN="2", **QUICK) as rig:
        ChangingRun(rig)
        opened = [watch(rig.stub) for _ in range(2)]
        for call in opened:
            await call.read()
        refusal = await ended(rig, names(watch(rig.stub)), Reason.GATEWAY_OVERLOADED)
        await rig.run(ID)
        for call in opened:
            call.cancel()

    assert ALWAYS | {"RetryInfo"} == set(refusal.details)


async def test_get_run_updates_the_watch_of_its_run(rigged: Any) -> None:
    """A fresh answer to a GetRun reaches the watchers before their next poll."""
    async with rigged(GATEWAY_WATCH__INTERVAL="1h") as rig:
        life = ChangingRun(rig, name="a")
        call = watch(rig.stub)
        first = (await call.read()).run.name
        life.be(name="b", status="COMPLETED")
        await rig.run(ID)
        seen = [first, *await names(call)]
        asked = rig.upstream.asked[ID]

    assert ["a", "b"] == seen
    assert 2 == asked
