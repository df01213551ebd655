"""The times at which requests are sent after stalls, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from math import inf

import pytest

from healthomics_gateway.errors.exceptions import NotAskedError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.runs.bulkhead import Bulkhead
from healthomics_gateway.runs.quota import LocalQuota
from healthomics_gateway.runs.rate_limit import RateLimited, Schedulers
from healthomics_gateway.runs.scheduler import Scheduler
from healthomics_gateway.runs.source import (
    Answer,
    Call,
    Caller,
    OneCall,
    Partition,
    RunQuery,
)
from healthomics_gateway.shared.adaptive_rate import RECOVERY_SECONDS
from healthomics_gateway.telemetry.recent import QuotaUse
from testkit.serving import answer
from testkit.virtual_time import virtually

TPS, BURST = 8.0, 2.0
THEIRS = Partition("arn:aws:iam::210987654321:role/x", "alice")
QUERY = RunQuery("1234567")

Wait = Callable[[], Awaitable[None]]


def now() -> float:
    """Return the loop's time."""
    return asyncio.get_running_loop().time()


async def nothing() -> None:
    """Take no time."""


class Session:
    """Credentials that are usable or not."""

    def __init__(self, getting: Wait = nothing, *, is_ready: bool = True) -> None:
        """Get new credentials with `getting`."""
        self._getting = getting
        self.is_ready = is_ready
        self.got = 0

    async def ready(self) -> None:
        """Get new credentials."""
        self.got += 1
        await self._getting()
        self.is_ready = True


class Upstream:
    """A HealthOmics behind connections, and the sources in front of it."""

    def __init__(
        self,
        *,
        places: int = 32,
        connecting: Wait = nothing,
        answering: Wait = nothing,
        session: Session | None = None,
        sendings: int = 1,
    ) -> None:
        """Connect and answer by these functions; send each request so many times."""
        self._connecting, self._answering = connecting, answering
        self._sendings = sendings
        shared = Bulkhead(places)
        self.schedulers = Schedulers(
            lambda _: Scheduler(
                LocalQuota(tps=TPS, burst=BURST, clock=now),
                poll_share=0.5,
                places=shared,
                clock=now,
            )
        )
        self.schedulers.learn("123456789012")
        session = session or Session()
        self.runs = RateLimited(self, self.schedulers, session=lambda _: session)
        self.inside = 0
        self.sent: list[
            tuple[Partition, float]
        ] = []  # the partition and the time of each

    async def get_run(self, query: RunQuery, *, call: Call) -> Answer:
        """Send a request, and return its answer."""
        del call
        self.inside += 1
        try:
            await self._connecting()
            for _ in range(self._sendings):
                await self.schedulers.depart(query)
                self.sent.append((query.partition, now()))
            await self._answering()
        finally:
            self.inside -= 1
        return answer()

    @asynccontextmanager
    async def crowd(
        self, number: int, query: RunQuery = QUERY
    ) -> AsyncIterator[list[asyncio.Task[Answer]]]:
        """Start so many calls, and wait until all are answered."""
        calls = [OneCall(inf, caller=Caller(str(at))) for at in range(number)]
        tasks = [
            asyncio.create_task(self.runs.get_run(query, call=call)) for call in calls
        ]
        yield tasks
        await asyncio.gather(*tasks)

    def most(self, partition: Partition = QUERY.partition) -> int:
        """Return the largest number of requests of an account in any second."""
        times = [at for owner, at in self.sent if owner == partition]
        return max(sum(at <= each < at + 1 - 1e-9 for each in times) for at in times)


def stalling(seconds: float, first: int = 1_000_000) -> Wait:
    """Return a wait until so many seconds from now, for the first that come."""
    end, numbers = now() + seconds, count(1)

    async def wait() -> None:
        if next(numbers) <= first:
            await asyncio.sleep(max(0.0, end - now()))

    return wait


# delays between a turn and its request


@pytest.mark.guarantee("quota-at-send")
def test_rate_holds_after_healthomics_has_stalled() -> None:
    """Calls that waited for a place have saved no tokens when it answers again."""

    async def work() -> tuple[int, float]:
        upstream = Upstream(places=32, answering=stalling(8.5))
        async with upstream.crowd(120):
            await asyncio.sleep(8.0)
            assert (32, 32) == (upstream.inside, len(upstream.sent))
        return upstream.most(), upstream.sent[-1][1] - upstream.sent[32][1]

    most, seconds = virtually(work)
    assert most <= TPS + BURST
    assert seconds == pytest.approx((120 - 32 - BURST) / TPS, abs=0.2)


@pytest.mark.guarantee("quota-at-send")
def test_rate_holds_after_slow_credentials() -> None:
    """Calls that waited for STS or the credential chain get turns at the rate."""

    async def work() -> int:
        upstream = Upstream(session=Session(stalling(4.5), is_ready=False))
        async with upstream.crowd(60):
            await asyncio.sleep(4.4)
            assert [] == upstream.sent
        return upstream.most()

    assert virtually(work) <= TPS + BURST


@pytest.mark.guarantee("quota-at-send")
def test_rate_holds_after_connections_have_stalled() -> None:
    """Requests whose connections open together aren't sent together."""

    async def work() -> tuple[int, float]:
        begun = now()
        upstream = Upstream(connecting=stalling(3.0, 20))
        async with upstream.crowd(60):
            pass
        return upstream.most(), now() - begun

    most, seconds = virtually(work)
    assert most <= TPS + BURST
    assert seconds <= 3.0 + 60 / TPS


@pytest.mark.guarantee("quota-at-send")
def test_rate_holds_if_each_request_is_replayed() -> None:
    """A replay takes a token too."""

    async def work() -> tuple[int, int]:
        upstream = Upstream(sendings=2)
        async with upstream.crowd(30):
            pass
        return upstream.most(), len(upstream.sent)

    most, sent = virtually(work)
    assert most <= TPS + BURST
    assert 60 == sent


@pytest.mark.guarantee("quota-at-send")
def test_rate_holds_for_each_account_while_they_share_the_places() -> None:
    """After a stall each account has its own rate, and neither waits for the other."""

    async def work() -> tuple[int, int, float]:
        begun = now()
        upstream = Upstream(places=8, answering=stalling(3.0))
        theirs = RunQuery(QUERY.id, partition=THEIRS)
        async with upstream.crowd(60), upstream.crowd(60, theirs):
            pass
        return upstream.most(), upstream.most(THEIRS), now() - begun

    ours, theirs, seconds = virtually(work)
    assert max(ours, theirs) <= TPS + BURST
    assert seconds <= 3.0 + 60 / TPS


def test_throttle_slows_requests_that_have_had_their_turn() -> None:
    """Requests that have had their turn are sent at the reduced rate."""

    async def work() -> list[float]:
        begun = now()
        upstream = Upstream(connecting=stalling(5.0, 30))
        async with upstream.crowd(30):
            await asyncio.sleep(5.0 - 1e-9)
            upstream.schedulers.of(QUERY).throttled()
        return [at - begun for _, at in upstream.sent]

    first, second, *_ = virtually(work)
    assert 1 / (0.7 * TPS) == pytest.approx(first - 5.0, rel=0.1)
    assert 1 / (0.7 * TPS) == pytest.approx(second - first, rel=0.1)


def test_call_that_need_not_wait_is_sent_at_once() -> None:
    """A call is sent within one turn of the event loop if it needn't wait."""

    async def work() -> int:
        upstream = Upstream()
        task = asyncio.create_task(upstream.runs.get_run(QUERY, call=OneCall(inf)))
        await asyncio.sleep(0)
        sent = len(upstream.sent)
        await task
        return sent

    assert 1 == virtually(work)


# credentials that expire while a call waits


@pytest.mark.guarantee("abandoned-turns")
def test_call_whose_credentials_expired_while_it_waited_takes_nothing() -> None:
    """It gets new ones and waits again; the next call uses its token and its place."""

    async def work() -> tuple[list[float], int, float]:
        session = Session(stalling(2.0))
        upstream = Upstream(session=session)
        begun = now()
        async with upstream.crowd(3):
            await asyncio.sleep(0.1)
            session.is_ready = False
            await asyncio.sleep(0.1)
            assert (2, 1) == (len(upstream.sent), session.got)
            session.is_ready = True
            await upstream.runs.get_run(QUERY, call=OneCall(inf))
            other = now() - begun
        return [at - begun for _, at in upstream.sent], session.got, other

    times, got, other = virtually(work)
    assert [0, 0, 0.2, 2.0] == pytest.approx(times)
    assert (1, 0.2) == (got, pytest.approx(other))


def test_new_credentials_that_have_expired_are_fetched_once() -> None:
    """A call doesn't fetch credentials again and again."""

    class Expired(Session):
        async def ready(self) -> None:
            self.got += 1

    async def work() -> int:
        session = Expired(is_ready=False)
        upstream = Upstream(session=session)
        async with upstream.crowd(3):
            pass
        return session.got

    assert 3 + 1 == virtually(work)


# cancellation


@pytest.mark.guarantee("abandoned-turns")
def test_call_that_is_cancelled_at_its_turn_returns_it() -> None:
    """The next call uses its token and its place at once."""

    async def work() -> list[float]:
        upstream = Upstream(places=1, answering=stalling(5.0, 1))
        begun = now()
        first, second, third = (
            asyncio.create_task(upstream.runs.get_run(QUERY, call=OneCall(inf)))
            for _ in range(3)
        )
        await first  # the second has its place now
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        assert second.cancelled()
        await third
        return [at - begun for _, at in upstream.sent]

    assert [0, 5.0] == pytest.approx(virtually(work))


@pytest.mark.guarantee("abandoned-turns")
def test_request_that_is_cancelled_at_the_gate_takes_no_token() -> None:
    """Later requests are sent in their order, without a gap."""

    async def work() -> list[tuple[int, float]]:
        opened: list[float] = []
        gate = LocalQuota(tps=10, burst=1, clock=now)
        gate.on_token(lambda: opened.append(now()))
        left: list[tuple[int, float]] = []
        begun = now()

        async def leave(name: int) -> None:
            await gate.depart()
            left.append((name, round(now() - begun, 6)))

        tasks = [asyncio.create_task(leave(each)) for each in range(5)]
        await asyncio.sleep(0.05)
        for each in (1, 3):
            tasks[each].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert [now()] == opened
        return left

    assert [(0, 0.0), (2, 0.1), (4, 0.2)] == virtually(work)


# refusals


@pytest.mark.parametrize(
    ("seconds_each", "reason"),
    [(0.1, Reason.UPSTREAM_THROTTLED), (10.0, Reason.GATEWAY_OVERLOADED)],
)
def test_refusal_names_what_is_short(seconds_each: float, reason: Reason) -> None:
    """The reason is a lack of tokens, or of places if these are held for too long."""

    async def work() -> Reason:
        async def answering() -> None:
            await asyncio.sleep(seconds_each)

        upstream = Upstream(places=4, answering=answering)
        calls = [OneCall(inf, caller=Caller(str(at))) for at in range(300)]
        tasks = [
            asyncio.create_task(upstream.runs.get_run(QUERY, call=call))
            for call in calls
        ]
        await asyncio.sleep(15)
        with pytest.raises(NotAskedError) as refused:
            await upstream.runs.get_run(QUERY, call=OneCall(now() + 0.1))
        for task in tasks:
            task.cancel()
        return refused.value.reason

    assert reason is virtually(work)


async def test_refusal_while_nothing_is_short_is_overload() -> None:
    """While tokens and places are free, a late call isn't refused for the quota."""
    scheduler = Scheduler(
        LocalQuota(tps=TPS, burst=1), poll_share=0.5, places=Bulkhead(1)
    )
    before = scheduler.refusal(0.0).reason
    await scheduler.turn(OneCall(inf))

    assert Reason.GATEWAY_OVERLOADED is before
    assert Reason.UPSTREAM_THROTTLED is scheduler.refusal(0.1).reason


async def test_call_that_waited_for_a_token_is_refused_for_the_quota() -> None:
    """A token that comes when a call is refused doesn't make it an overload."""
    time = 0.0
    scheduler = Scheduler(
        LocalQuota(tps=TPS, burst=1, clock=lambda: time),
        poll_share=0.5,
        places=Bulkhead(1),
        clock=lambda: time,
    )
    scheduler.leave(await scheduler.turn(OneCall(inf)) or 0.0)
    late = OneCall(1.0)
    waiting = asyncio.create_task(scheduler.turn(late))
    await asyncio.sleep(0)
    time = 1.0  # which the event loop hasn't noticed
    refusal = scheduler.refusal(scheduler.expected_wait(late))
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)

    assert Reason.UPSTREAM_THROTTLED is refusal.reason


def test_use_of_each_account_is_counted_where_requests_are_sent() -> None:
    """The gateway's account has the name `own`; a throttle lowers the rate noted."""

    async def work() -> list[tuple[str, int, int, bool]]:
        schedulers = Schedulers(
            lambda _: Scheduler(
                LocalQuota(tps=TPS, burst=BURST, clock=now),
                poll_share=0.5,
                places=Bulkhead(inf),
                use=QuotaUse(tps=TPS, recovery_seconds=RECOVERY_SECONDS, clock=now),
                clock=now,
            )
        )
        schedulers.learn("123456789012")
        schedulers.prepare([THEIRS.role])
        await schedulers.depart(QUERY)
        await schedulers.depart(RunQuery("2", partition=THEIRS))
        await schedulers.depart(RunQuery("3", partition=THEIRS))
        schedulers.of(RunQuery("2", partition=THEIRS)).throttled()
        return [
            (
                account,
                each.use.slots[-1].used,
                each.use.slots[-1].throttled,
                each.use.slots[-1].rate_per_second < TPS,
            )
            for account, each in schedulers.by_account.items()
        ]

    assert [("own", 1, 0, False), ("210987654321", 2, 1, True)] == virtually(work)


def test_quota_that_is_closed_grants_no_token() -> None:
    """Nothing runs in the background any more."""

    async def work() -> list[float]:
        ready: list[float] = []
        quota = LocalQuota(tps=10, burst=1, clock=now)
        quota.on_token(lambda: ready.append(now()))
        for _ in range(2):
            quota.take()
            quota.want()
            await asyncio.sleep(1)
        quota.take()
        quota.want()
        await quota.close()
        await asyncio.sleep(1)
        return ready

    assert 2 == len(virtually(work))
