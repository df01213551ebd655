"""Callers' calls a second across replicas, in virtual time."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.interceptors.local_limits import MAX_KNOWN
from healthomics_gateway.interceptors.shared_rates import (
    KEEP_SECONDS,
    MAX_BATCH,
    MAX_EMPTY_SECONDS,
    MAX_REQUESTS,
    SharedRates,
)
from healthomics_gateway.shared.store import Permit, StoreError, StoreFullError
from testkit.members import CUT, Member, among, attached
from testkit.virtual_time import now, virtually


class Limiter:
    """One replica's limits, and the times of the calls that it has permitted."""

    def __init__(self, member: Member) -> None:
        """Begin without calls."""
        self.member = member
        self.store = member.store
        self.rates = SharedRates(member.replica, member.names, clock=now)
        self.permitted: list[float] = []

    async def call(
        self, name: str = "lims", *, rate: float = 100.0, is_identity: bool = True
    ) -> GatewayError | None:
        """Make a call; return its error."""
        if not self.rates.take(name, rate, is_identity=is_identity):
            try:
                await self.rates.ask(name, rate, is_identity=is_identity)
            except GatewayError as error:
                return error
        self.permitted.append(now())
        return None

    async def flood(self, *, seconds: float, rate: float, calls: float) -> None:
        """Make so many calls a second."""
        end = now() + seconds
        while now() < end:
            await self.call(rate=rate)
            await asyncio.sleep(1 / calls)


several = among(Limiter)


def most_in(times: list[float], seconds: float) -> int:
    """Return how many times there are in any window of so many seconds."""
    ordered, first, most = sorted(times), 0, 0
    for at, each in enumerate(ordered):
        while ordered[first] <= each - seconds:
            first += 1
        most = max(most, at - first + 1)
    return most


@pytest.mark.guarantee("shared-limits")
@several
async def test_rate_holds_for_all_replicas_together(
    a: Limiter, b: Limiter, c: Limiter
) -> None:
    """A caller that uses several replicas has its rate once, and all of it."""
    begun = now()
    floods = [each.flood(seconds=20.0, rate=100.0, calls=150.0) for each in (a, b, c)]
    await asyncio.gather(*floods)
    times = [*a.permitted, *b.permitted, *c.permitted]

    assert 100 + 20 * 100 >= len(times) >= 20 * 100
    assert most_in(times, 1.0) <= 100 + 2 * 100  # some were taken a second before
    assert len([each for each in times if each - begun < 1.0]) <= 100 + 100
    assert min(map(len, (a.permitted, b.permitted, c.permitted))) > 20 * 100 / 5


def test_calls_below_the_rate_are_all_permitted() -> None:
    """Replicas that have few calls of a caller take no tokens that others need.

    Each of 50 replicas has a call a second. With 5 % of a second's tokens for it, they
    would take more than there are, and leave none for calls that come together.
    """

    async def work() -> list[GatewayError | None]:
        async with attached(50) as members:
            limiters = list(map(Limiter, members))
            errors = []
            for each in 3 * limiters:
                errors.append(await each.call(rate=100.0))
                await asyncio.sleep(1 / 50)
            together = (limiters[0].call(rate=100.0) for _ in range(90))
            return [*errors, *await asyncio.gather(*together)]

    assert [None] * 240 == virtually(work)


@several
async def test_tokens_are_taken_in_batches(a: Limiter) -> None:
    """A caller with many calls costs the store few requests."""
    await a.flood(seconds=10.0, rate=1000.0, calls=900.0)

    assert len(a.permitted) >= 8000
    assert a.store.commands["take"] <= 10 * 30


@several
async def test_batches_are_bounded(a: Limiter) -> None:
    """A caller with a very high rate doesn't make a replica take a second's tokens."""
    await a.flood(seconds=2.0, rate=10_000.0, calls=9000.0)

    assert len(a.permitted) >= 2000
    assert len(a.permitted) <= (MAX_BATCH + 1) * a.store.commands["take"]


@several
async def test_simultaneous_calls_share_a_request(a: Limiter) -> None:
    """A hundred calls at once need one request, as the bucket has a hundred tokens."""
    errors = await asyncio.gather(*(a.call() for _ in range(100)))

    assert [None] * 100 == errors
    assert 1 == a.store.commands["take"]


@several
async def test_calls_beyond_the_rate_are_refused_with_a_delay(
    a: Limiter, b: Limiter
) -> None:
    """The delay is until the store has a token; until then it isn't asked again."""
    errors = await asyncio.gather(*(a.call(rate=4.0) for _ in range(6)))
    refusals = [each.retry_delay_seconds for each in errors if each]
    asked = a.store.commands["take"]
    again = await a.call(rate=4.0)
    elsewhere = await b.call(rate=4.0)

    assert [pytest.approx(0.25, abs=0.01)] * 2 == refusals
    assert again
    assert Reason.CALLER_RATE_LIMITED is again.reason
    assert elsewhere
    assert asked == a.store.commands["take"]
    await asyncio.sleep(0.25)
    assert await b.call(rate=4.0) is None


@several
async def test_calls_that_come_during_a_request_get_tokens(a: Limiter) -> None:
    """Those that the request hasn't counted share the next one."""
    first = asyncio.create_task(a.call())
    await asyncio.sleep(0.0005)
    errors = await asyncio.gather(*(a.call() for _ in range(50)))

    assert [None] * 51 == [await first, *errors]
    assert 2 == a.store.commands["take"]


@several
async def test_unused_token_expires(a: Limiter, b: Limiter) -> None:
    """A token that was taken for a call which never came isn't used later."""
    await a.flood(seconds=1.0, rate=100.0, calls=80.0)
    await asyncio.sleep(KEEP_SECONDS + 1.0)
    await asyncio.gather(*(b.call() for _ in range(100)))

    assert 100 == len(b.permitted)
    assert await a.call()


@several
async def test_cancelled_calls_use_no_tokens(a: Limiter, b: Limiter) -> None:
    """What a call that has left doesn't use, the next one gets."""
    calls = [asyncio.create_task(a.call(rate=4.0)) for _ in range(4)]
    await asyncio.sleep(0.0005)
    for call in calls:
        call.cancel()
    await asyncio.sleep(0.01)

    assert [None] * 4 == [await a.call(rate=4.0) for _ in range(4)]
    assert await b.call(rate=4.0)


@several
async def test_detached_replica_permits_its_share(a: Limiter) -> None:
    """Without the store a caller has a fixed share of its rate, without a request."""
    await a.member.detach()
    a.store.commands.clear()
    await a.flood(seconds=10.0, rate=100.0, calls=200.0)

    assert 10 * 50 <= len(a.permitted) <= 10 * 50 + 50
    assert 0 == a.store.commands["take"]
    error = await a.call()
    assert error
    assert 0.02 >= error.retry_delay_seconds


@several
async def test_detached_replica_permits_a_call_of_a_low_rate(
    a: Limiter, b: Limiter
) -> None:
    """A share of less than one call is one call at first, and later at its rate."""
    for each in (a, b):
        await each.member.detach()
        assert await each.call(rate=0.5) is None
        error = await each.call(rate=0.5)
        assert error
        assert 4.0 == error.retry_delay_seconds


@several
async def test_detachment_gives_no_full_bucket(a: Limiter) -> None:
    """What a replica has permitted with the store counts for its own share too."""
    await asyncio.gather(*(a.call() for _ in range(100)))
    await a.member.detach()
    errors = [await a.call() for _ in range(100)]

    assert 25 >= errors.count(None)  # those of the time until it has noticed


@pytest.mark.parametrize("fault", [StoreError("gone"), StoreFullError("full")])
def test_call_is_decided_here_if_the_store_fails(fault: StoreError) -> None:
    """A failed request is no error of a call, nor of those that share it."""

    @several
    async def test(a: Limiter) -> None:
        a.store.faults["take"] = fault
        errors = await asyncio.gather(*(a.call() for _ in range(60)))

        assert 50 == errors.count(None)

    test()


@pytest.mark.parametrize(
    ("said", "permitted"),
    [
        pytest.param(Permit(10**9, 0.0), 30, id="too-many"),
        pytest.param(Permit(-5, 0.0), 0, id="less-than-none"),
        pytest.param(Permit(0, -1.0), 0, id="none-but-at-once"),
        pytest.param(Permit(0, 1e9), 0, id="none-for-ever"),
    ],
)
def test_store_that_lies_has_a_bounded_effect(said: Permit, permitted: int) -> None:
    """No more calls are permitted than were asked for, and a refusal is no loop."""

    @several
    async def test(a: Limiter) -> None:
        a.store.answers["take"] = said
        errors = await asyncio.gather(*(a.call() for _ in range(30)))

        assert permitted == errors.count(None)
        assert a.store.commands["take"] <= MAX_REQUESTS
        assert a.rates.take("lims", 100.0, is_identity=True) is False

    test()


@several
async def test_refusal_of_the_store_holds_for_a_second_at_most(a: Limiter) -> None:
    """A store that says that it has no token for longer is asked again."""
    a.store.answers["take"] = Permit(0, 1e9)
    error = await a.call()
    a.store.answers.clear()
    await asyncio.sleep(MAX_EMPTY_SECONDS)

    assert error
    assert error.retry_delay_seconds <= MAX_EMPTY_SECONDS
    assert await a.call() is None


@several
async def test_slow_store_is_waited_for_50_ms(a: Limiter) -> None:
    """Further calls don't wait, as the replica is detached."""
    a.store.delay = lambda: 3600.0
    begun = now()
    await asyncio.gather(*(a.call() for _ in range(10)))

    assert pytest.approx(0.05) == now() - begun
    await a.call()
    assert pytest.approx(0.05) == now() - begun


@several
async def test_absent_replica_keeps_its_share(a: Limiter, b: Limiter) -> None:
    """While one uses its own share, the other doesn't get all of the rate."""
    await a.member.detach()
    await asyncio.sleep(3.0)
    floods = [each.flood(seconds=5.0, rate=100.0, calls=200.0) for each in (a, b)]
    await asyncio.gather(*floods)
    both = len(a.permitted) + len(b.permitted)

    assert 5 * 100 <= both <= 5 * 100 + 100


@several
async def test_new_rule_changes_the_rate(a: Limiter) -> None:
    """A lower rate holds at once, and a higher one too."""
    await asyncio.gather(*(a.call(rate=4.0) for _ in range(5)))
    await a.flood(seconds=10.0, rate=40.0, calls=100.0)
    assert 10 * 40 <= len(a.permitted) <= 4 + 10 * 40 + 40
    a.permitted.clear()
    await a.flood(seconds=10.0, rate=2.0, calls=100.0)

    assert len(a.permitted) <= 10 * 2 + 4


@several
async def test_hosts_and_identities_have_separate_buckets(a: Limiter) -> None:
    """A host can't use the tokens of an identity of the same name, nor evict it."""
    assert await a.call("x", rate=1.0) is None
    assert await a.call("x", rate=1.0, is_identity=False) is None
    await a.member.detach()
    for number in range(MAX_KNOWN + 1):
        a.rates.take(f"host {number}", 1.0, is_identity=False)

    assert await a.call("x", rate=1.0)


@given(
    seed=st.integers(0, 2**32),
    rate=st.sampled_from([0.5, 1.0, 7.0, 60.0, 300.0]),
    replicas=st.integers(1, 5),
    faults=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_no_more_calls_are_permitted_than_the_rate_allows(
    seed: int, rate: float, replicas: int, *, faults: bool
) -> None:
    """Whatever replicas do, a caller gets its rate and burst; a fault adds a burst."""
    chance = random.Random(seed)

    async def work() -> tuple[list[float], float]:
        async with attached(replicas) as members:
            limiters = list(map(Limiter, members))
            begun, end = now(), now() + 12.0

            async def calls(limiter: Limiter) -> None:
                while now() < end:
                    number = chance.choice((1, 1, 2, 20))
                    many = [
                        asyncio.create_task(limiter.call(rate=rate))
                        for _ in range(number)
                    ]
                    if chance.random() < 0.1:
                        await asyncio.sleep(chance.random() / 500)
                        many[0].cancel()
                    await asyncio.gather(*many, return_exceptions=True)
                    await asyncio.sleep(chance.expovariate(rate))

            async def disturb(limiter: Limiter) -> None:
                await asyncio.sleep(chance.random() * 8)
                limiter.store.fault = CUT
                await asyncio.sleep(chance.random() * 4)
                limiter.store.fault = None

            work = [calls(each) for each in limiters]
            work += [disturb(each) for each in limiters if faults]
            await asyncio.gather(*work)
            times = sorted(time for each in limiters for time in each.permitted)
            return times, begun

    times, begun = virtually(work)
    burst = max(rate, 1.0)
    own = replicas * max(rate / replicas, 1.0) if faults else 0.0
    # Replicas notice within two seconds that another one is detached.
    late = 2.0 * rate if faults else 0.0
    for number, at in enumerate(times, 1):
        assert number <= burst + own + late + rate * (at - begun) + 1e-3
