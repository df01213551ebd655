"""Watches that replicas share, in virtual time."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from itertools import pairwise
from math import inf
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.runs.source import OneCall, RunQuery
from testkit.freezing import with_processes
from testkit.members import CUT
from testkit.serving import failure
from testkit.virtual_time import now, virtually
from testkit.world import World

ID = "1234567"
LIFE = (
    (0.0, {"name": "a"}),
    (17.0, {"name": "b"}),
    (31.0, {"name": "c", "status": "COMPLETED"}),
)


async def until(at: float) -> None:
    """Sleep until second 1000 + `at`."""
    await asyncio.sleep(1000 + at - now())


async def left_behind(world: World) -> list[Any]:
    """Return what there is of watches a second later: it must be nothing."""
    await asyncio.sleep(1)
    left: list[Any] = []  # of replicas that live
    for each in world.nodes:
        if not each.member.is_killed:
            left += each.subscriptions()
        left += [*each.shared.open, *([each] if each.watches.pollers else ())]
    for run_id in {polled for _, polled, _ in world.polled}:
        name = world.nodes[0].values.name(RunQuery(run_id)) or ""
        claim = world.server.memory.claim(name, "", replica="other", period_seconds=inf)
        left += [claim] if claim.holder != "other" else []
    return left


@pytest.mark.guarantee("replicas-share-polls")
def test_run_is_polled_once_a_period_by_all_replicas() -> None:
    """A thousand runs, watched at three replicas that join at any time."""
    draw = random.Random(1)
    runs = [str(number) for number in range(1000)]
    life = [(at / 2, members) for at, members in LIFE]

    async def work() -> Any:
        world = World(*life, jitter=draw.random)
        await world.attach()
        watches = [
            node.watch(run, at=1 + 4 * draw.random())
            for run in runs
            for node in world.nodes
        ]
        seen = await asyncio.gather(*watches)
        return seen, {run: world.polls(run) for run in runs}, await left_behind(world)

    seen, polled, left = virtually(work)
    assert [["a", "b", "c", "end"]] * 3000 == [
        [what for _, what in each] for each in seen
    ]
    assert 15.5 + 5.2 > max(at for each in seen for at, _ in each)
    gaps = [
        after - before for each in polled.values() for before, after in pairwise(each)
    ]
    assert {5.1} == {round(gap, 3) for gap in gaps}  # a period and a poll
    assert 5000 > sum(map(len, polled.values()))
    assert [] == left


def test_answer_to_a_call_postpones_polls_at_all_replicas() -> None:
    """A GetRun call at any replica saves a poll, and its answer reaches all watches."""

    async def work() -> Any:
        world = World(*LIFE)
        _, second, third = world.nodes
        await world.attach()
        watches = [each.watch(ID, at=1) for each in world.nodes]
        await until(4)
        await third.watches.get_run(RunQuery(ID), call=OneCall(inf))
        await until(17)
        await second.watches.get_run(RunQuery(ID), call=OneCall(inf))
        return await asyncio.gather(*watches), world.polls(), world.pollers()

    seen, polled, pollers = virtually(work)
    assert [1, 4, 9.1, 14.2, 17, 22.1, 27.2, 32.3] == polled
    assert [0, 2, 0, 0, 1, 0, 0, 0] == pollers
    assert [[(1.1, "a"), (17.1, "b"), (32.4, "c"), (32.4, "end")]] * 3 == seen


def test_first_state_comes_from_the_store_if_it_is_young() -> None:
    """A watch that begins at another replica gets the last answer at once."""

    async def work() -> Any:
        world = World(*LIFE)
        first, second, _ = world.nodes
        await world.attach()
        watches = [first.watch(ID, at=1), second.watch(ID, at=4, seconds=20)]
        (_, seen) = await asyncio.gather(*watches)
        return seen, world.pollers()

    seen, pollers = virtually(work)
    assert [(4, "a"), (21.5, "b"), (24, "late")] == seen
    assert {0} == set(pollers)


def test_first_state_is_polled_if_the_other_replica_polls_rarely() -> None:
    """A new watch doesn't wait for a long period, whichever replica polls."""

    async def work() -> Any:
        world = World(*LIFE)
        first, second, _ = world.nodes
        await world.attach()
        watches = [
            first.watch(ID, at=1, period_seconds=20),
            second.watch(ID, at=11, period_seconds=20),
        ]
        seen = await asyncio.gather(*watches)
        return seen, world.polls(), world.pollers(), await left_behind(world)

    seen, polled, pollers, left = virtually(work)
    assert [(1.1, "a"), (31.2, "c"), (31.2, "end")] == seen[0]
    assert [(11.1, "a"), (31.2, "c"), (31.2, "end")] == seen[1]
    assert ([1, 11, 31.1], [0, 1, 1]) == (polled, pollers)
    assert [] == left


def test_shorter_period_takes_the_lease_over() -> None:
    """While it lasts, its replica polls; then the other one polls as before."""

    async def work() -> Any:
        world = World(*LIFE)
        first, second, _ = world.nodes
        await world.attach()
        watches = [
            first.watch(ID, at=1),
            second.watch(ID, at=2, period_seconds=2, seconds=8),
        ]
        await asyncio.gather(*watches)
        return world.polls(), world.pollers()

    polled, pollers = virtually(work)
    assert [1, 2, 4.1, 6.2, 8.3, 13.4, 18.5, 23.6, 28.7, 33.8] == polled
    assert [0, 1, 1, 1, 1, 0, 0, 0, 0, 0] == pollers


# faults


@pytest.mark.guarantee("lease-takeover")
@pytest.mark.parametrize("fault", ["killed", "frozen"])
def test_another_replica_polls_soon_after_the_poller_is_gone(fault: str) -> None:
    """It polls within 5 s after the poll is due; a frozen one finds that out first."""

    async def work() -> Any:
        world = World(*LIFE)
        first = world.nodes[0]
        await world.attach()
        watches = [each.watch(ID, at=1) for each in world.nodes]
        await until(11)
        if fault == "killed":
            await first.kill()
        else:
            await first.member.process.freeze(10)
        seen = await asyncio.gather(*watches[1:])
        if fault == "frozen":
            assert ["a", "b", "c", "end"] == [what for _, what in await watches[0]]
        return seen, world.polls(), world.pollers(), await left_behind(world)

    seen, polled, pollers, left = with_processes(work)
    assert [["a", "b", "c", "end"]] * 2 == [[what for _, what in each] for each in seen]
    gap = [after - before for before, after in pairwise(polled)]
    assert {5.1} == {round(each, 3) for each in gap[:1] + gap[3:]}
    assert max(gap) <= 5.1 + 5
    assert [0, 0] == pollers[:2]
    assert 0 not in pollers[3:]
    assert [] == left


def test_each_replica_polls_by_itself_without_the_store() -> None:
    """Once the store is back, one of them polls for all."""

    async def work() -> Any:
        world = World(*LIFE)
        await world.attach()
        watches = [each.watch(ID, at=1) for each in world.nodes]
        await until(4)
        for each in world.nodes:
            each.store.fault = CUT
        await until(14)
        for each in world.nodes:
            each.store.fault = None
        await asyncio.gather(*watches)
        return world.polled, await left_behind(world)

    polled, left = virtually(work)
    before = [at for at, _, _ in polled if at < 4]
    meanwhile = Counter(node for at, _, node in polled if 4 <= at < 14)
    after = [at for at, _, _ in polled if 21 <= at]
    assert [1] == before
    assert [2, 2, 2] == sorted(meanwhile.values())
    assert {5.1} == {round(two - one, 3) for one, two in pairwise(after)}
    assert [] == left


def test_run_without_a_name_is_polled_by_each_replica() -> None:
    """Nothing is shared until the gateway's own identity is known."""

    async def work() -> Any:
        world = World(*LIFE)
        await world.attach()
        for each in world.nodes:
            each.member.names.learn(account="", identity="")
        watches = [each.watch(ID, at=1) for each in world.nodes]
        await until(8)
        for each in world.nodes:
            each.member.names.learn(account="1", identity="gateway")
        await asyncio.gather(*watches)
        return world.polls(), await left_behind(world)

    polled, left = virtually(work)
    assert [1, 1, 1, 6.1, 6.1, 6.1, 11.2, 16.3, 21.4, 26.5, 31.6] == polled
    assert [] == left


def test_store_that_is_wiped_changes_no_poll() -> None:
    """The replica that polls takes the lease again."""

    async def work() -> Any:
        world = World(*LIFE)
        await world.attach()
        watches = [each.watch(ID, at=1) for each in world.nodes]
        await until(9)
        world.server.wipe()
        seen = await asyncio.gather(*watches)
        return seen, world.polls(), await left_behind(world)

    seen, polled, left = virtually(work)
    assert [["a", "b", "c", "end"]] * 3 == [[what for _, what in each] for each in seen]
    assert [1, 6.1, 11.2, 16.3, 21.4, 26.5, 31.6] == polled
    assert [] == left


@pytest.mark.guarantee("replicas-share-ends")
def test_watch_misses_no_end_if_all_messages_are_lost() -> None:
    """Its next claim finds the newest value, at most a period and a second later."""

    async def work() -> Any:
        world = World(*LIFE)
        await world.attach()
        for each in world.nodes:
            each.store.loses_messages = True
        watches = [each.watch(ID, at=1) for each in world.nodes]
        return await asyncio.gather(*watches), await left_behind(world)

    seen, left = virtually(work)
    assert [["a", "b", "c", "end"]] * 3 == [[what for _, what in each] for each in seen]
    assert 31 + 5.1 + 6 >= max(each[-1][0] for each in seen)
    assert [] == left


@pytest.mark.parametrize(
    "reason", [Reason.UPSTREAM_INTERNAL, Reason.UPSTREAM_THROTTLED]
)
def test_followers_wait_while_healthomics_fails(reason: Reason) -> None:
    """The back-off decides; after a minute without news each follower polls once."""

    async def work() -> Any:
        error = failure(reason)
        world = World((0, {"name": "a"}), (4, error), (300, {"status": "COMPLETED"}))
        await world.attach()
        watches = [each.watch(ID, at=1) for each in world.nodes]
        await asyncio.gather(*watches)
        return world.polls(), world.pollers()

    polled, pollers = virtually(work)
    by_replica = [
        [at for at, poller in zip(polled, pollers, strict=True) if poller == number]
        for number in range(3)
    ]
    assert [1, 6.1, 7.2, 9.3, 13.4, 21.5, 37.6, 69.7, 129.8] == by_replica[0][:9]
    assert all(
        60 <= after - before
        for each in by_replica[1:]
        for before, after in pairwise(each)
    )
    assert [4, 4] == [len(each) for each in by_replica[1:]]


@pytest.mark.guarantee("lease-takeover")
@pytest.mark.parametrize(
    "reason",
    [
        Reason.UPSTREAM_CONNECTION,
        Reason.UPSTREAM_TLS_UNTRUSTED,
        Reason.GATEWAY_CREDENTIALS_EXPIRED,
    ],
)
def test_another_replica_polls_if_the_polls_of_one_fail(reason: Reason) -> None:
    """It does so after two failures, and the first one follows it."""

    async def work() -> Any:
        world = World(*LIFE)
        await world.attach()
        watches = [each.watch(ID, at=1) for each in world.nodes]
        await until(8)
        world.nodes[0].failure = failure(reason)
        seen = await asyncio.gather(*watches)
        return seen, world.polls(), world.pollers(), await left_behind(world)

    seen, polled, pollers, left = virtually(work)
    assert [["a", "b", "c", "end"]] * 3 == [[what for _, what in each] for each in seen]
    assert [1, 6.1, 11.2, 12.3, 12.65, 17.75, 22.85, 27.95, 33.05] == polled
    assert [0, 0, 0, 0] == pollers[:4]
    assert [pollers[4] or 1] * 5 == pollers[4:]
    assert [] == left


def test_replica_whose_polls_fail_takes_no_lease_from_another() -> None:
    """It polls once a minute to see whether it can, and then its period counts."""

    async def work() -> Any:
        world = World((0, {"name": "a"}), (300, {"status": "COMPLETED"}))
        first, second, _ = world.nodes
        await world.attach()
        watches = [first.watch(ID, at=1, period_seconds=2), second.watch(ID, at=1)]
        await until(8)
        first.failure = failure(Reason.UPSTREAM_DNS)
        await until(200)
        first.failure = None
        await asyncio.gather(*watches)
        return world.polled, world.nodes

    polled, (first, second, _) = virtually(work)
    failed = [at for at, _, node in polled if node is first and 8 < at < 200]
    others = [at for at, _, node in polled if node is second]
    again = [at for at, _, node in polled if node is first and at >= 200]
    assert [9.4, 10.5, 12.6] == failed[:3]  # the others' next poll isn't due yet
    assert all(60 <= after - before for before, after in pairwise(failed[2:]))
    assert 5 == len(failed)
    assert {5.1} == {round(after - before, 3) for before, after in pairwise(others)}
    assert others[-1] <= again[0] + 5.1
    assert again[0] <= 200 + 65
    assert {2.1} == {round(after - before, 3) for before, after in pairwise(again[1:])}


def test_replicas_whose_polls_all_fail_poll_by_their_back_off() -> None:
    """None of them polls more often because another one fails, and all see the end."""
    backed_off = [min(2**number, 60) for number in range(12)]

    async def work() -> Any:
        world = World((0, {"name": "a"}), (400, {"status": "COMPLETED"}))
        await world.attach()
        watches = [each.watch(ID, at=1) for each in world.nodes]
        await until(8)
        for each in world.nodes:
            each.failure = failure(Reason.UPSTREAM_CONNECTION)
        await until(401)
        for each in world.nodes:
            each.failure = None
        seen = await asyncio.gather(*watches)
        return seen, world.polled, world.nodes, await left_behind(world)

    seen, polled, nodes, left = virtually(work)
    for each in nodes:
        failed = [at for at, _, node in polled if node is each and 8 < at < 401]
        pauses = [after - before for before, after in pairwise(failed)]
        assert all(
            pause >= least for pause, least in zip(pauses, backed_off, strict=False)
        )
        assert 8 <= len(failed) <= 12
    assert {"end"} == {each[-1][1] for each in seen}
    assert 401 + 65 >= max(each[-1][0] for each in seen)
    assert [] == left


def test_replica_whose_polls_fail_goes_on_if_it_is_alone() -> None:
    """It polls by its back-off, as without a store; a new watch elsewhere polls."""

    async def work() -> Any:
        world = World((0, {"name": "a"}), (50, {"status": "COMPLETED"}))
        first, second, _ = world.nodes
        await world.attach()
        first.failure = failure(Reason.UPSTREAM_CONNECTION)
        watch = first.watch(ID, at=1)
        await until(20)
        seen = await second.watch(ID)
        return await watch, seen, world.polls(), world.pollers()

    first, second, polled, pollers = virtually(work)
    assert [1, 2.1, 4.2, 8.3, 16.4, 20, 25.1, 30.2] == polled[:8]
    assert [0] * 5 + [1] * 7 == pollers
    assert ["a", "", "end"] == [what for _, what in first]
    assert first[-1][0] <= second[-1][0]


def test_final_error_is_found_by_each_replica() -> None:
    """The lease is released, so each replica asks once, and its watches end."""

    async def work() -> Any:
        world = World((0, {"name": "a"}), (4, failure(Reason.RUN_NOT_FOUND)))
        await world.attach()
        watches = [each.watch(ID, at=1) for each in world.nodes]
        return await asyncio.gather(*watches), world.polls(), await left_behind(world)

    seen, polled, left = virtually(work)
    assert [[(1.1, "a"), Reason.RUN_NOT_FOUND]] * 3 == [
        [each[0], each[1][1]] for each in seen
    ]
    assert [1, 6.1, 6.45, 6.8] == polled
    assert [] == left


def test_lease_that_could_not_be_released_is_released_later() -> None:
    """The other replica doesn't wait for one that has ended its polls."""

    async def work() -> Any:
        world = World(*LIFE)
        first, second, _ = world.nodes
        await world.attach()
        left, follower = first.watch(ID, at=1), second.watch(ID, at=2)
        await until(3)
        first.store.fault = CUT
        left.cancel()
        await until(3.5)
        first.store.fault = None
        seen = await follower
        return seen, world.pollers(), await left_behind(world)

    seen, pollers, left = virtually(work)
    assert ["a", "b", "c", "end"] == [what for _, what in seen]
    assert [0, 1, 1, 1, 1, 1, 1] == pollers
    assert [] == left


def test_watch_that_begins_again_is_still_subscribed() -> None:
    """The end of the poller before it doesn't end its subscription."""

    async def work() -> Any:
        world = World(*LIFE)
        first, second, _ = world.nodes
        await world.attach()
        polling = first.watch(ID, at=1)
        await second.watch(ID, at=2, seconds=1)
        return await asyncio.gather(polling, second.watch(ID)), world.pollers()

    seen, pollers = virtually(work)
    assert [(1.1, "a"), (21.5, "b"), (31.7, "c"), (31.7, "end")] == seen[0]
    assert [(3, "a"), (21.5, "b"), (31.7, "c"), (31.7, "end")] == seen[1]
    assert {0} == set(pollers)


def test_lease_that_is_granted_after_its_watch_has_left_is_released() -> None:
    """A claim that is under way when the last watch leaves has no effect."""

    async def work() -> Any:
        world = World(*LIFE)
        first = world.nodes[0]
        await world.attach()
        first.store.delay = lambda: 0.04
        watch = first.watch(ID, at=1)
        await until(1.01)
        watch.cancel()
        return world.polls(), await left_behind(world)

    assert ([], []) == virtually(work)


def test_lease_that_is_granted_after_the_end_of_the_run_is_released() -> None:
    """No poll follows an answer to a call that shows the end."""

    async def work() -> Any:
        world = World((0, {"name": "a", "status": "FAILED"}), seconds=0.01)
        first = world.nodes[0]
        await world.attach()
        first.store.delay = lambda: 0.04
        watch = first.watch(ID, at=1)
        await until(1)
        await first.watches.get_run(RunQuery(ID), call=OneCall(inf))
        return await watch, world.polls(), await left_behind(world)

    seen, polled, left = virtually(work)
    assert [(1.01, "a"), (1.01, "end")] == seen
    assert [1] == polled  # the call's
    assert [] == left


def test_lease_that_is_released_during_a_claim_is_claimed_again() -> None:
    """It doesn't matter which of the two answers arrives first."""

    async def work() -> Any:
        world = World(*LIFE)
        first, second, _ = world.nodes
        await world.attach()
        polling = first.watch(ID, at=1)
        await until(3)
        second.store.delay = lambda: 0.04
        claim = second.watch(ID, at=3)
        await asyncio.sleep(0.03)  # the store has refused it
        polling.cancel()
        await asyncio.sleep(0.02)
        second.store.delay = lambda: 0.0
        await claim
        return world.polls(), world.pollers()

    polled, pollers = virtually(work)
    assert [1, 6.35] == polled[:2]
    assert [0, 1, 1, 1, 1, 1, 1] == pollers


KINDS = ("cut", "fail", "freeze", "kill", "lose", "slow", "wipe")
FAULTS = st.lists(
    st.tuples(
        st.sampled_from(KINDS),
        st.integers(0, 2),  # the replica
        st.floats(0, 35),  # its beginning
        st.floats(0.01, 10),  # its length
    ),
    max_size=6,
)


async def cause(world: World, fault: tuple[str, int, float, float]) -> None:
    """Cause a fault, and end it after its time; the last replica is never killed."""
    kind, number, at, seconds = fault
    node = world.nodes[number]
    await until(1 + at)
    if kind == "wipe":
        world.server.wipe()
    elif kind == "kill":
        if number < 2:
            await node.kill()
    elif kind == "freeze":
        await node.member.process.freeze(seconds)
    elif kind == "lose":
        node.store.loses_messages = True
        await asyncio.sleep(seconds)
        node.store.loses_messages = False
    elif kind == "fail":
        node.failure = failure(Reason.UPSTREAM_CONNECTION)
        await asyncio.sleep(seconds)
        node.failure = None
    elif kind == "slow":
        node.store.delay = lambda: 0.2
        await asyncio.sleep(seconds)
        node.store.delay = lambda: 0.0
    elif not node.member.is_killed:
        node.store.fault = CUT
        await asyncio.sleep(seconds)
        node.store.fault = CUT if node.member.is_killed else None


@pytest.mark.guarantee("replicas-share-ends")
@settings(max_examples=60, deadline=None)
@given(FAULTS, st.integers(0, 999))
def test_no_fault_makes_a_watch_miss_its_end(
    faults: list[tuple[str, int, float, float]], seed: int
) -> None:
    """Each watch at a replica that lives ends soon after the run and the faults."""
    draw = random.Random(seed)

    async def work() -> Any:
        world = World(*LIFE, jitter=draw.random)
        await world.attach()
        watches = [
            (node, node.watch(run, at=1 + 9 * draw.random()))
            for run in ("1", "2")
            for node in world.nodes
        ]
        await asyncio.gather(*(cause(world, each) for each in faults))
        await asyncio.wait([watch for _, watch in watches], timeout=60)
        seen = [await watch for node, watch in watches if not node.member.is_killed]
        await asyncio.sleep(5)
        return seen, world.polls(), await left_behind(world)

    seen, polled, left = with_processes(work)
    ends = [31.0, *(1 + at + seconds for _, _, at, seconds in faults)]
    assert {"end"} == {each[-1][1] for each in seen}
    assert {"c"} == {each[-2][1] for each in seen}
    late = 12 + (32 if "fail" in {kind for kind, *_ in faults} else 0)  # the back-off
    assert max(ends) + late >= max(each[-1][0] for each in seen)
    assert 2 * 3 * 12 >= len(polled)
    assert [] == left


# values


def test_answer_that_is_too_large_to_be_published_is_not_shared() -> None:
    """Each replica polls by itself."""

    async def work() -> Any:
        world = World(
            *((at, {**each, "definition": "x" * 300_000}) for at, each in LIFE)
        )
        await world.attach()
        watches = [each.watch(ID, at=1) for each in world.nodes]
        seen = await asyncio.gather(*watches)
        return seen, Counter(world.pollers()), await left_behind(world)

    seen, polls, left = virtually(work)
    assert [["a", "b", "c", "end"]] * 3 == [[what for _, what in each] for each in seen]
    assert [5, 6, 7] == sorted(polls.values())
    assert [] == left


def test_values_that_are_forged_or_published_again_change_nothing() -> None:
    """A value counts if this run's entry has it, and it is the newest."""

    async def work() -> Any:
        world = World(*LIFE)
        first, second, _ = world.nodes
        await world.attach()
        values: list[bytes] = []
        name = first.values.name(RunQuery(ID))
        world.server.memory.subscribe(name, lambda _, value: values.append(value))
        watches = [first.watch(ID, at=1), second.watch(ID, at=2)]
        await until(23)
        old, new = values[0], values[-1]
        for value in (b"forged", old, new[:-1] + b"x", new):
            world.server.memory.write(name, "", value, age_seconds=0, keep_seconds=60)
        seen = await asyncio.gather(*watches)
        return seen, world.pollers(), len(second.rejected.values)

    seen, pollers, rejected = virtually(work)
    assert [["a", "b", "c", "end"]] * 2 == [[what for _, what in each] for each in seen]
    assert ([0] * 7, 2) == (pollers, rejected)


@pytest.mark.parametrize("offset_seconds", [-3600.0, -10.0, 10.0, 3600.0])
def test_wrong_clock_delays_no_watch(offset_seconds: float) -> None:
    """If the clocks of two replicas disagree, both may poll."""

    async def work() -> Any:
        world = World(*LIFE)
        first, second, _ = world.nodes
        first.member.wall_seconds = offset_seconds
        await world.attach()
        watches = [first.watch(ID, at=1), second.watch(ID, at=2)]
        return await asyncio.gather(*watches), Counter(world.pollers())

    seen, polls = virtually(work)
    assert [["a", "b", "c", "end"]] * 2 == [[what for _, what in each] for each in seen]
    assert 37 > max(each[-1][0] for each in seen)
    assert 14 >= polls.total()


def test_store_with_invalid_values_delays_no_watch() -> None:
    """A replica polls by itself if what the store has isn't valid."""

    async def work() -> Any:
        world = World(*LIFE)
        first, second, _ = world.nodes
        await world.attach()
        first.is_publishing = second.is_publishing = False
        name = first.values.name(RunQuery(ID))
        world.server.memory.write(name, "", b"forged", age_seconds=0, keep_seconds=100)
        return await asyncio.gather(first.watch(ID, at=1), second.watch(ID, at=2))

    seen = virtually(work)
    assert [["a", "b", "c", "end"]] * 2 == [[what for _, what in each] for each in seen]
