"""Callers' open watches across replicas, in virtual time."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.interceptors.shared_counts import SharedCounts
from healthomics_gateway.shared.store import StoreError, StoreFullError
from testkit.members import CUT, Member, among, attached, until
from testkit.virtual_time import virtually


class Watcher:
    """One replica's watches, by caller."""

    def __init__(self, member: Member) -> None:
        """Begin without watches."""
        self.member = member
        self.store = member.store
        self.counts = SharedCounts(member.replica, member.names, jitter=lambda: 0.25)
        self.open: Counter[str] = Counter()

    async def begin(
        self, name: str = "lims", *, limit: int | None = 5
    ) -> GatewayError | None:
        """Begin a watch; return its error."""
        if not self.counts.enter(name, limit):
            try:
                await self.counts.ask(name, limit)
            except GatewayError as error:
                return error
        self.open[name] += 1
        return None

    async def begin_many(self, number: int, *, limit: int = 5) -> int:
        """Begin watches at the same time; return how many have begun."""
        begun = await asyncio.gather(*(self.begin(limit=limit) for _ in range(number)))
        return begun.count(None)

    def end(self, name: str = "lims") -> None:
        """End a watch."""
        self.counts.leave(name)
        self.open[name] -= 1

    def in_store(self, name: str = "lims") -> int:
        """Return how many watches the store counts, of all replicas together.

        That is the largest limit with which it permits no other watch.
        """
        count = self.store.server.memory.count
        stored = self.member.names.caller("watches", name)
        number = 0
        while not count(stored, 1, replica="another", limit=number + 1):
            number += 1
        count(stored, 0, replica="another", limit=None)
        return number


several = among(Watcher)


@pytest.mark.guarantee("shared-limits")
@several
async def test_limit_holds_for_all_replicas_together(
    a: Watcher, b: Watcher, c: Watcher
) -> None:
    """A caller has as many watches as its rule allows, at any replicas."""
    begun = await asyncio.gather(*(each.begin_many(4) for each in (a, b, c)))
    error = await a.begin()

    assert 5 == sum(begun)
    assert error
    assert (Reason.CALLER_RATE_LIMITED, 0.75) == (
        error.reason,
        error.retry_delay_seconds,
    )
    assert await a.begin("other") is None
    next(each for each in (a, b, c) if each.open["lims"]).end()
    await asyncio.sleep(0.01)
    assert await c.begin() is None
    assert await b.begin()


@several
async def test_watches_that_begin_together_share_a_request(a: Watcher) -> None:
    """If all may begin, one request is enough."""
    assert 500 == await a.begin_many(500, limit=1000)
    assert 1 == a.store.commands["count"]


@several
async def test_as_many_watches_begin_as_the_limit_allows(
    a: Watcher, b: Watcher
) -> None:
    """If not all may begin, exactly those do that the limit allows."""
    await b.begin_many(300, limit=1000)

    assert 700 == await a.begin_many(2000, limit=1000)
    assert 30 >= a.store.commands["count"]


@several
async def test_caller_without_limit_never_touches_the_store(a: Watcher) -> None:
    """Its watches are only counted here."""
    for _ in range(3):
        assert await a.begin(limit=None) is None
    a.end()
    await asyncio.sleep(1.0)

    assert 0 == a.store.commands["count"]


@several
async def test_new_rule_counts_the_watches_before_it(a: Watcher, b: Watcher) -> None:
    """A caller that gets a limit has its watches of before."""
    for _ in range(4):
        await a.begin(limit=None)

    assert 1 == await a.begin_many(2)
    assert await b.begin()


@several
async def test_end_is_sent_in_the_background(a: Watcher, b: Watcher) -> None:
    """Watches that end together cost the store one request for each caller."""
    await a.begin_many(5)
    a.store.commands.clear()
    for _ in range(5):
        a.end()
    assert 0 == a.store.commands["count"]
    await asyncio.sleep(0.01)

    assert 1 == a.store.commands["count"]
    assert 5 == await b.begin_many(5)


@several
async def test_detached_replica_permits_its_share(
    a: Watcher, b: Watcher, c: Watcher
) -> None:
    """Watches that are open count for the share, but don't end."""
    await c.begin_many(4, limit=12)
    for each in (a, b, c):
        await each.member.detach()
        each.store.commands.clear()

    assert [4, 1, 0] == [
        await each.begin_many(10, limit=limit)
        for each, limit in ((a, 12), (b, 2), (c, 12))
    ]
    assert 0 == a.store.commands["count"]


@several
async def test_numbers_are_sent_after_an_attachment(a: Watcher, b: Watcher) -> None:
    """What began and ended meanwhile counts for the others."""
    await a.begin_many(5)
    await a.begin("gone")
    await a.member.detach()
    for _ in range(3):
        a.end()
    a.end("gone")
    await a.begin("new", limit=1)
    await a.member.attach()
    await asyncio.sleep(0.1)

    assert (2, 0, 1) == (a.in_store(), a.in_store("gone"), a.in_store("new"))
    assert 3 == await b.begin_many(10)
    assert await b.begin("new", limit=1)
    assert await b.begin("gone", limit=1) is None


@several
async def test_numbers_are_sent_to_a_store_that_lost_them(
    a: Watcher, b: Watcher
) -> None:
    """A restarted store gets the numbers as soon as the replicas notice."""
    await a.begin_many(4)
    a.store.server.wipe()
    await asyncio.sleep(2.0)

    assert 1 == await b.begin_many(5)


@several
async def test_watches_of_a_dead_replica_do_not_count(a: Watcher, b: Watcher) -> None:
    """After two seconds the others may have them."""
    await a.begin_many(5)
    a.store.fault = CUT

    assert await b.begin()
    await asyncio.sleep(2.5)
    assert 5 == await b.begin_many(6)


@pytest.mark.parametrize("fault", [StoreError("gone"), StoreFullError("full")])
def test_watch_is_decided_here_if_the_store_fails(fault: StoreError) -> None:
    """A failed request is no error of a watch, and the number is sent later."""

    @several
    async def test(a: Watcher, b: Watcher) -> None:
        await a.begin_many(1)
        a.store.faults["count"] = fault
        assert 1 == await a.begin_many(3, limit=4)  # the share is two
        a.end()
        await asyncio.sleep(5.0)
        assert a.store.commands["count"] < 60
        a.store.faults.clear()
        await until(lambda: a.in_store() == 1)

        assert 3 == await b.begin_many(5, limit=4)

    test()


@several
async def test_cancelled_watches_are_not_counted(a: Watcher, b: Watcher) -> None:
    """It doesn't matter when a call is cancelled."""
    for seconds in (0.0, 0.0004, 0.0006, 0.0009, 0.001, 0.0011):
        many = [asyncio.create_task(a.counts.ask("lims", 5)) for _ in range(5)]
        await asyncio.sleep(seconds)
        are_done = [each.done() for each in many]
        for each in many:
            each.cancel()
        await asyncio.gather(*many, return_exceptions=True)
        for is_done in are_done:
            if is_done:
                a.counts.leave("lims")
        await asyncio.sleep(0.01)

        assert 0 == a.in_store()
    assert 5 == await b.begin_many(6)


@several
async def test_watch_that_is_cancelled_as_it_begins_is_not_counted(
    a: Watcher, b: Watcher
) -> None:
    """A call can be cancelled after the decision, before it goes on."""
    a.store.delay = lambda: 0.0
    watch = asyncio.create_task(a.counts.ask("lims", 5))
    await asyncio.sleep(0)
    entry = a.counts._callers["lims"].entries[0]  # noqa: SLF001  # a race in there
    while not entry.done():  # noqa: ASYNC110  # each pass of the loop matters
        await asyncio.sleep(0)
    watch.cancel()
    await asyncio.gather(watch, return_exceptions=True)
    assert watch.cancelled()
    await asyncio.sleep(0.01)

    assert 5 == await b.begin_many(6)


@several
async def test_callers_without_watches_are_forgotten(a: Watcher) -> None:
    """Nothing is kept of a caller that has gone."""
    for number in range(100):
        await a.begin(str(number))
        a.end(str(number))
    await asyncio.sleep(1.0)
    assert {} == a.counts._callers  # noqa: SLF001  # nothing else shows it
    await a.begin("before")
    await a.member.detach()
    for number in range(100):
        await a.begin(str(number))
        a.end(str(number))

    assert {"before"} == set(a.counts._callers)  # noqa: SLF001  # as above


@several
async def test_callers_whose_end_is_unsent_are_bounded(a: Watcher) -> None:
    """Beyond the bound, the store isn't sent that a caller's last watch has ended."""
    a.counts = SharedCounts(a.member.replica, a.member.names, max_callers=2)
    for number in range(5):
        await a.begin(str(number))
    await a.member.detach()
    for number in range(5):
        a.end(str(number))

    assert {"3", "4"} == set(a.counts._callers)  # noqa: SLF001  # nothing else shows them


@given(
    seed=st.integers(0, 2**32),
    limit=st.integers(1, 6),
    replicas=st.integers(1, 4),
    faults=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_no_more_watches_are_open_than_the_limit_allows(
    seed: int, limit: int, replicas: int, *, faults: bool
) -> None:
    """No cancellation changes that, and a replica that detaches has its share.

    In the end nothing is counted any more.
    """
    chance = random.Random(seed)
    most = limit + (replicas * max(limit // replicas, 1) if faults else 0)

    async def watch(each: Watcher, everyone: list[Watcher]) -> None:
        await asyncio.sleep(chance.random() * 20)
        beginning = asyncio.create_task(each.begin(limit=limit))
        if chance.random() < 0.2:
            await asyncio.sleep(chance.random() / 500)
            beginning.cancel()
        (error,) = await asyncio.gather(beginning, return_exceptions=True)
        if error is None:
            assert sum(each.open["lims"] for each in everyone) <= most
            await asyncio.sleep(chance.random() * 3)
            each.end()

    async def disturb(each: Watcher) -> None:
        await asyncio.sleep(chance.random() * 10)
        each.store.fault = CUT
        await asyncio.sleep(chance.random() * 4)
        each.store.fault = None

    async def work() -> None:
        async with attached(replicas) as members:
            watchers = [Watcher(each) for each in members]
            watches = [watch(chance.choice(watchers), watchers) for _ in range(100)]
            faulty = [disturb(each) for each in watchers if faults]
            await asyncio.gather(*watches, *faulty)
            await asyncio.sleep(5.0)

            assert 0 == watchers[0].in_store()
            assert [{}] * replicas == [
                each.counts._callers  # noqa: SLF001  # the same
                for each in watchers
            ]

    virtually(work)
