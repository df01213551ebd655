"""What replicas send that share a quota, in virtual time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from healthomics_gateway.runs.shared_quota import SharedQuota
from healthomics_gateway.runs.shared_rate import USABLE_SECONDS, drawn
from healthomics_gateway.shared.memory import MemoryStore
from healthomics_gateway.shared.replica import Replica
from healthomics_gateway.shared.store import Reservation, StoreFullError
from testkit.fleet import Fleet, Sender, gathered
from testkit.freezing import with_processes
from testkit.local_store import LocalStore
from testkit.members import CUT
from testkit.virtual_time import now

TPS, BURST = 20.0, 8.0
MOST_REPLICAS = 6  # of which each can save a token while detached


def fleet(**fields: float) -> Fleet:
    """Return a fleet without replicas."""
    return Fleet(**{"tps": TPS, "burst": BURST, "expected": MOST_REPLICAS} | fields)


def busy(
    work: Callable[[Fleet], Awaitable[None]],
    *,
    number: int = 3,
    seconds: float = 4.0,
    **fields: float,
) -> Fleet:
    """Run `work` after replicas with many callers each have shared a quota."""

    async def run() -> Fleet:
        replicas = fleet(**{"expected": number} | fields)
        for each in await replicas.settled(number):
            each.callers(20)
        await asyncio.sleep(seconds)
        await work(replicas)
        await replicas.close()
        return replicas

    return with_processes(run)


# the bound


class Faults:
    """What can happen to a fleet."""

    def __init__(self, replicas: Fleet) -> None:
        """Begin without faults."""
        self._fleet = replicas
        self._freezing: list[asyncio.Task[None]] = []

    def _member(self, at: int) -> Sender | None:
        living = [each for each in self._fleet.members if not each.member.is_killed]
        return living[at % len(living)] if living else None

    async def calls(self, at: int, seconds: float) -> None:
        """Let calls arrive at once, whose connections take a while."""
        member = self._member(at)
        for number in range(round(seconds * 20)):
            if member:
                member.call(str(number), connecting=0.02 * (number % 8))

    async def abandoned(self, at: int, seconds: float) -> None:
        """Let calls arrive at once that are all cancelled soon."""
        if member := self._member(at):
            calls = [member.call(str(number)) for number in range(5)]
            await asyncio.sleep(seconds / 10)
            for each in calls:
                each.cancel()

    async def freeze(self, at: int, seconds: float) -> None:
        """Freeze a replica."""
        if member := self._member(at):
            self._freezing.append(asyncio.create_task(member.process.freeze(seconds)))

    async def cut_off(self, at: int, seconds: float) -> None:
        """Cut a replica off from the store, for less than FORGET_SECONDS."""
        if member := self._member(at):
            member.store.fault = CUT
            asyncio.get_running_loop().call_later(seconds, self._connect, member)

    def _connect(self, member: Sender) -> None:
        member.store.fault = None

    async def lose(self, _at: int, seconds: float) -> None:
        """Let the store be gone for a while."""
        self._fleet.server.fault = CUT
        asyncio.get_running_loop().call_later(seconds, self._find)

    def _find(self) -> None:
        self._fleet.server.fault = None

    async def wipe(self, _at: int, _seconds: float) -> None:
        """Empty the store."""
        self._fleet.server.wipe()

    async def slow(self, at: int, seconds: float) -> None:
        """Let each command take another time from now on."""
        self._fleet.latency = lambda: seconds * (at % 3) * 0.02

    async def kill(self, at: int, _seconds: float) -> None:
        """End a replica."""
        if member := self._member(at):
            member.member.kill()

    async def leave(self, at: int, _seconds: float) -> None:
        """End a replica as a process that is stopped."""
        if member := self._member(at):
            await member.leave()

    async def join(self, _at: int, seconds: float) -> None:
        """Start a replica, which gets calls when all others know it."""
        living = [each for each in self._fleet.members if not each.member.is_killed]
        if len(living) == MOST_REPLICAS or self._fleet.server.fault:
            return
        (member,) = self._fleet.add()
        await asyncio.sleep(0.6)
        if any(each.replica.replicas <= len(living) for each in living):
            member.member.kill()  # one that is frozen or cut off doesn't know it yet
        elif seconds > 1:
            member.callers(20)

    async def wait(self, _at: int, seconds: float) -> None:
        """Do nothing for a while."""
        await asyncio.sleep(seconds)


EVENTS = [name for name in vars(Faults) if not name.startswith("_")]
events = st.tuples(
    st.sampled_from([*EVENTS, "calls", "wait"]), st.integers(0, 5), st.floats(0.01, 3.0)
)


@pytest.mark.guarantee("quota-of-replicas")
@settings(max_examples=60, deadline=None)
@given(
    number=st.integers(1, 4),
    crowded=st.integers(0, 4),
    story=st.lists(events, max_size=30),
)
def test_replicas_never_exceed_the_rate(
    number: int, crowded: int, story: list[tuple[str, int, float]]
) -> None:
    """In no second they send more than tps + burst, whatever happens to them."""

    async def work() -> Fleet:
        replicas = fleet(expected=number)
        for each in (await replicas.settled(number))[:crowded]:
            each.callers(20)
        faults = Faults(replicas)
        for name, at, seconds in story:
            try:
                async with asyncio.timeout(10.0):
                    await getattr(faults, name)(at, seconds)
            except TimeoutError:
                continue  # a replica that can't join
            await asyncio.sleep(seconds / 10)
        await asyncio.sleep(3.0)
        await replicas.close()
        return replicas

    most = with_processes(work).most()
    assert most <= TPS + BURST


async def burst(
    work: Callable[[Fleet], Awaitable[None]], *, late: int = 0, number: int = 6
) -> Fleet:
    """Start many calls at once that find a full bucket, and then run `work`.

    The connections of some calls before take as long as a token may be used.
    """
    replicas = fleet(expected=number)
    members = await replicas.settled(number)
    for each in members[:late]:
        each.call(connecting=0.0999)
    await asyncio.sleep(0.0998)
    for each in members:
        each.callers(20)
    await work(replicas)
    await asyncio.sleep(3.0)
    await replicas.close()
    return replicas


async def nothing(_replicas: Fleet) -> None:
    """Let nothing happen."""


@pytest.mark.guarantee("quota-of-replicas")
def test_tokens_that_are_used_late_are_within_the_burst() -> None:
    """Requests that depart 0.1 s after their turns don't add to the next burst."""
    most = with_processes(lambda: burst(nothing, late=2)).most()

    assert TPS + BURST - 1 <= most <= TPS + BURST


@pytest.mark.guarantee("quota-of-replicas")
def test_replicas_that_are_cut_off_send_nothing_until_the_store_notices() -> None:
    """The others may use the whole rate until the store counts them as detached."""

    async def cut_off(replicas: Fleet) -> None:
        for each in replicas.members[:4]:
            each.store.fault = CUT

    assert with_processes(lambda: burst(cut_off)).most() <= TPS + BURST


@pytest.mark.guarantee("quota-of-replicas")
def test_static_shares_are_used_when_all_have_noticed_that_the_store_is_lost() -> None:
    """They don't add to the tokens that were reserved before."""

    async def lose(replicas: Fleet) -> None:
        await asyncio.sleep(0.3)
        replicas.server.fault = CUT

    assert with_processes(lambda: burst(lose)).most() <= TPS + BURST


@pytest.mark.guarantee("quota-of-replicas")
def test_new_store_is_used_when_all_have_noticed_that_it_is_new() -> None:
    """They don't add to the tokens that were reserved before."""

    async def wipe(replicas: Fleet) -> None:
        await asyncio.sleep(0.3)
        replicas.server.wipe()

    assert with_processes(lambda: burst(wipe)).most() <= TPS + BURST


@pytest.mark.guarantee("quota-of-replicas")
def test_saved_tokens_of_detached_replicas_are_missing_in_the_store() -> None:
    """The burst is that of all replicas together, attached or not."""

    async def work() -> Fleet:
        replicas = fleet(expected=6)
        members = await replicas.settled(6)
        for each in members[:5]:
            each.store.fault = CUT
        await asyncio.sleep(2.0)
        for each in members:
            each.call()  # so that they begin to save
        await asyncio.sleep(4.0)
        for each in members:
            each.callers(20)
        await asyncio.sleep(2.0)
        await replicas.close()
        return replicas

    assert with_processes(work).most() <= TPS + BURST


@pytest.mark.guarantee("quota-of-replicas")
def test_reservation_of_a_frozen_replica_is_not_used() -> None:
    """A token whose time was while a replica was frozen is lost."""

    async def freeze(replicas: Fleet) -> None:
        await asyncio.sleep(0.6)
        frozen = [each.process.freeze(0.28) for each in replicas.members]
        await asyncio.gather(*frozen)
        replicas.sent.append((now(), replicas.members[0], "mark"))
        await asyncio.sleep(0.001)

    replicas = with_processes(lambda: burst(freeze))
    at, *_ = next(each for each in replicas.sent if each[2] == "mark")
    sent = sum(at <= each < at + 0.001 for each, *_ in replicas.sent) - 1

    assert sent <= TPS * USABLE_SECONDS  # of 6 that had a reservation


def test_whole_rate_is_used_soon_after_an_outage() -> None:
    """The first replicas that attach reserve no tokens that are far ahead."""

    async def lose(replicas: Fleet) -> None:
        replicas.server.fault = CUT
        await asyncio.sleep(3.0)
        replicas.server.fault = None
        await asyncio.sleep(2.5)
        begin = now()
        await asyncio.sleep(4.0)
        useful.append(replicas.useful(begin, now()))

    useful: list[float] = []
    busy(lose, number=30, tps=10.0, burst=2.0)

    assert useful[0] >= 0.95


# turns


def test_turns_go_round_among_replicas_and_their_callers() -> None:
    """Each replica gets as many tokens, and so does each of its callers."""
    replicas = busy(lambda _: asyncio.sleep(10.0), seconds=0.0, tps=12.0)
    by_replica = Counter(member for _, member, _ in replicas.sent)
    by_caller = Counter(caller for *_, caller in replicas.sent if caller)

    assert max(by_replica.values()) - min(by_replica.values()) <= 1
    assert max(by_caller.values()) - min(by_caller.values()) <= 1


def test_idle_replica_leaves_its_share_to_the_others() -> None:
    """One busy replica has the whole rate."""

    async def work() -> float:
        replicas = fleet(expected=3)
        (one, *_) = await replicas.settled(3)
        one.callers(20)
        begin = now()
        await asyncio.sleep(10.0)
        await replicas.close()
        return replicas.useful(begin, begin + 10.0)

    assert with_processes(work) >= 0.99


def test_request_that_is_late_waits_for_another_token() -> None:
    """It comes before the calls that wait for their turn."""

    async def work() -> list[str]:
        replicas = fleet(tps=10.0, burst=1.0, expected=1)
        (one,) = await replicas.settled(1)
        late = one.call("late", connecting=0.25)
        await gathered(late, *(one.call(str(at)) for at in range(5)))
        await replicas.close()
        return [caller for *_, caller in replicas.sent]

    assert ["", "0", "1", "late", "2", "3", "4"] == with_processes(work)


def test_throttle_of_one_replica_slows_all() -> None:
    """The rate is that of the store, and each replica reports it."""

    async def throttle(replicas: Fleet) -> None:
        before = now()
        replicas.members[0].scheduler.throttled()
        replicas.members[0].scheduler.throttled()
        await asyncio.sleep(1.0)
        replicas.sent = [each for each in replicas.sent if each[0] > before]
        rates.extend(each.scheduler.rate for each in replicas.members)

    rates: list[float] = []
    replicas = busy(throttle)

    assert [0.72 * TPS] * 3 == pytest.approx(rates, rel=0.02)
    assert 0.71 * TPS == pytest.approx(len(replicas.sent), abs=2)


def test_throttle_while_detached_slows_the_static_share() -> None:
    """Each replica has a third of what is left of the rate."""

    async def throttle(replicas: Fleet) -> None:
        replicas.server.fault = CUT
        await asyncio.sleep(1.5)
        for each in replicas.members:
            each.scheduler.throttled()
        rates.extend(each.scheduler.rate for each in replicas.members)
        limits.extend(each.scheduler.tps for each in replicas.members)

    rates: list[float] = []
    limits: list[float] = []
    busy(throttle)

    assert [0.7 * TPS / 3] * 3 == pytest.approx(rates, rel=0.02)
    assert [TPS / 3] * 3 == pytest.approx(limits)


@pytest.mark.parametrize(
    ("replicas", "workers", "part"),
    [(3, 1, 1 / 3), (3, 2, 2 / 3), (3, 4, 1.0), (12, 2, 0.7 * 2 / 12)],
)
def test_detached_replica_reports_the_share_of_all_workers(
    replicas: int, workers: int, part: float
) -> None:
    """It is never more than the whole rate, and less if all may save a token each."""
    quota = SharedQuota(
        Replica(LocalStore(MemoryStore()), replicas=replicas),
        lambda: "quota",
        tps=TPS,
        burst=BURST,
        workers=workers,
    )

    assert [TPS * part] * 2 == pytest.approx([quota.tps, quota.rate])


def test_replicas_with_different_quotas_log_it_once() -> None:
    """They share the lowest one."""

    async def change(replicas: Fleet) -> None:
        replicas.tps = TPS / 2
        replicas.add(1)[0].callers(20)
        await asyncio.sleep(5.0)
        lowest_since.append(now())
        await asyncio.sleep(10.0)

    lowest_since: list[float] = []
    with capture_logs() as logs:
        replicas = busy(change, number=2, expected=3)

    # One whose tokens always come after those of an equal one doesn't notice it.
    events = Counter(each["event"] for each in logs)
    assert 2 <= events["quotas_differ"] <= 3
    assert replicas.most(lowest_since[0]) <= 0.6 * TPS + BURST


def test_quota_of_a_fleet_that_has_ended_is_not_logged() -> None:
    """All replicas were restarted with other settings, and the store remembers."""

    async def restart(replicas: Fleet) -> None:
        replicas.members[0].member.kill()
        replicas.tps = TPS / 2
        for each in replicas.add(2):
            each.callers(5)
        await asyncio.sleep(15.0)

    with capture_logs() as logs:
        busy(restart, number=1, expected=1)

    assert {"store_attached"} == {each["event"] for each in logs}


# calls that can't wait, or don't


@pytest.mark.parametrize("is_gone", [False, True])
def test_call_whose_turn_comes_too_late_is_refused_at_once(*, is_gone: bool) -> None:
    """The estimate is that of this replica, attached or not."""

    async def refuse(replicas: Fleet) -> None:
        replicas.server.fault = CUT if is_gone else None
        await asyncio.sleep(3.0)
        one = replicas.members[0]
        begun = now()
        await one.call("new", seconds=0.2)
        estimates.append(now() - begun)
        estimates.append(one.quota.wait_seconds(20))

    estimates: list[float] = []
    replicas = busy(refuse)

    assert 1 == replicas.refused
    assert [0.0, 3.0] == pytest.approx(estimates, rel=0.15)


def test_delay_of_one_token_is_not_the_time_of_all() -> None:
    """The estimate of a process that was stopped is that of its share at most."""

    async def work() -> float:
        replicas = fleet(expected=3, latency=lambda: 0.02)
        one, *others = await replicas.settled(3)
        for each in others:
            each.callers(20)
        await asyncio.sleep(1.0)
        one.callers(20)
        await asyncio.sleep(0.01)
        await one.process.freeze(1.0)
        estimates = []
        for _ in range(100):
            estimates.append(one.quota.wait_seconds(20))
            await asyncio.sleep(0.01)
        await replicas.close()
        return max(estimates)

    assert with_processes(work) <= 20 * 3 / TPS * 1.05


def test_calls_that_are_cancelled_at_their_turns_lose_no_tokens() -> None:
    """Another call uses the token at once."""

    async def work() -> list[float]:
        replicas = fleet(tps=10.0, burst=1.0, expected=1)
        (one,) = await replicas.settled(1)
        first, second = one.call("first"), one.call("second")
        begun, ready = now(), one.quota._ready  # noqa: SLF001  # to cancel in between

        def cancel() -> None:
            ready()
            first.cancel()

        one.quota.on_token(cancel)
        await gathered(first, second)
        await replicas.close()
        return [at - begun for at, _, caller in replicas.sent if caller]

    assert [0.0] == pytest.approx(with_processes(work), abs=0.01)


def test_quota_that_is_not_used_has_no_task_and_is_like_new() -> None:
    """A token that nobody takes ends the task."""

    async def work() -> list[bool]:
        replicas = fleet(expected=1)
        (one,) = await replicas.settled(1)
        call = one.call("a")
        await asyncio.sleep(0)
        seen = [one.scheduler.is_like_new]
        await gathered(call)
        await asyncio.sleep(1.0)
        seen += [one.scheduler.is_like_new, one.quota.has_token]
        await one.quota.close()
        await replicas.close()
        return seen

    assert [False, True, False] == with_processes(work)


def test_replay_and_cancellation_at_the_gate() -> None:
    """A request that is sent again needs a token of its own, unless it is cancelled."""

    async def work() -> tuple[int, float]:
        replicas = fleet(tps=10.0, burst=1.0, expected=1)
        (one,) = await replicas.settled(1)
        await one.call("a")
        begun = now()
        gone = one.process.start(one.scheduler.depart())
        last = one.process.start(one.scheduler.depart())
        await asyncio.sleep(0)
        waiting = one.quota.waiting
        gone.cancel()
        await last
        await one.quota.close()
        await replicas.close()
        return waiting, now() - begun

    waiting, seconds = with_processes(work)

    assert 2 == waiting
    assert seconds <= 0.2 + 1e-3


# what the store answers


def test_full_store_stops_nothing_for_long() -> None:
    """A command that fails without detaching the replica is tried again."""

    async def fill(replicas: Fleet) -> None:
        replicas.members[0].store.faults["reserve"] = StoreFullError("it is full")
        await asyncio.sleep(1.0)
        replicas.members[0].store.faults.clear()
        replicas.sent.clear()
        await asyncio.sleep(2.0)

    replicas = busy(fill)

    assert 3 == len({member for _, member, _ in replicas.sent})


def test_token_of_a_time_with_many_dead_replicas_is_not_waited_for() -> None:
    """They had a share for 10 s; a token of that time may be minutes ahead."""

    async def work() -> float:
        replicas = fleet(expected=1)
        (one,) = await replicas.settled(1)
        one.callers(5)
        for number in range(4000):
            replicas.server.memory.beat(str(number), is_attached=False, known=1)
        begun = now()
        await asyncio.sleep(20.0)
        await replicas.close()
        return replicas.useful(begun + 14.0, begun + 20.0)

    assert with_processes(work) > 0.5


def test_store_that_gives_too_much_is_not_believed() -> None:
    """A replica by itself never sends more than the rate."""

    async def work() -> int:
        replicas = fleet(expected=1)
        (one,) = await replicas.settled(1)
        one.store.answers["reserve"] = Reservation(0.0, 1e9)
        one.callers(50)
        await asyncio.sleep(3.0)
        await replicas.close()
        return replicas.most()

    assert TPS + BURST >= with_processes(work)


@pytest.mark.parametrize(
    ("tps", "burst_", "expected"),
    [
        (8.0, 2.0, (8.0, 1.2)),
        (8.0, 1.0, (8.0 / 1.1, 1.0)),
        (100.0, 100.0, (100.0, 90.0)),
        (1000.0, 10.0, (1009.0 / 1.1, 1.0)),
    ],
)
def test_drawn_rate_leaves_room_for_late_tokens(
    tps: float, burst_: float, expected: tuple[float, float]
) -> None:
    """In a second and USABLE_SECONDS no more than tps + burst tokens arrive."""
    rate = drawn(tps, burst_)

    assert expected == pytest.approx(rate)
    assert rate.tps * 1.1 + rate.burst <= tps + burst_ + 1e-9
