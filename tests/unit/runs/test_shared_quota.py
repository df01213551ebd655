"""What replicas send that share a quota, in virtual time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from math import inf

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from healthomics_gateway.runs.shared_quota import drawn
from healthomics_gateway.shared.store import SETTLE_SECONDS, Store, StoreError
from testkit.fleet import Fleet, Member, gathered, now
from testkit.freezing import with_processes

TPS, BURST = 20.0, 12.0
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

    def _member(self, at: int) -> Member | None:
        living = [each for each in self._fleet.members if not each.is_killed]
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
            member.is_cut_off = True
            asyncio.get_running_loop().call_later(seconds, self._connect, member)

    def _connect(self, member: Member) -> None:
        member.is_cut_off = False

    async def lose(self, _at: int, seconds: float) -> None:
        """Let the store be gone for a while."""
        self._fleet.is_gone = True
        asyncio.get_running_loop().call_later(seconds, self._find)

    def _find(self) -> None:
        self._fleet.is_gone = False

    async def wipe(self, _at: int, _seconds: float) -> None:
        """Empty the store."""
        self._fleet.wipe()

    async def slow(self, at: int, seconds: float) -> None:
        """Let each command take another time from now on."""
        self._fleet.latency = lambda: seconds * (at % 3) * 0.02

    async def kill(self, at: int, _seconds: float) -> None:
        """End a replica."""
        if member := self._member(at):
            member.kill()

    async def leave(self, at: int, _seconds: float) -> None:
        """End a replica as a process that is stopped."""
        if member := self._member(at):
            await member.leave()

    async def join(self, _at: int, seconds: float) -> None:
        """Start a replica, which gets calls when it has reached the store."""
        living = sum(not each.is_killed for each in self._fleet.members)
        if living < MOST_REPLICAS and not self._fleet.is_gone:
            (member,) = self._fleet.add()
            while not member.replica.is_attached:
                await asyncio.sleep(0.1)
            if seconds > 1:
                member.callers(20)

    async def wait(self, _at: int, seconds: float) -> None:
        """Do nothing for a while."""
        await asyncio.sleep(seconds)


EVENTS = [name for name in vars(Faults) if not name.startswith("_")]
events = st.tuples(
    st.sampled_from([*EVENTS, "calls", "wait"]), st.integers(0, 5), st.floats(0.01, 3.0)
)


@pytest.mark.guarantee("quota-of-replicas")
@settings(
    max_examples=1500, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True, database=None
)
@given(number=st.integers(1, 4), crowded=st.integers(0, 4), story=st.lists(events, max_size=30))
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

    assert with_processes(work).most() <= TPS + BURST
