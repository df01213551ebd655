"""Replicas that share a quota through a store in memory, in virtual time."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from math import inf

from healthomics_gateway.errors.exceptions import NotAskedError
from healthomics_gateway.runs.bulkhead import Bulkhead
from healthomics_gateway.runs.scheduler import Scheduler
from healthomics_gateway.runs.shared_quota import SharedQuota
from healthomics_gateway.runs.source import Caller, OneCall
from healthomics_gateway.shared.memory import MemoryStore
from healthomics_gateway.shared.replica import Replica
from testkit.faulty_store import FaultyStore
from testkit.freezing import Process


def now() -> float:
    """Return the loop's time."""
    return asyncio.get_running_loop().time()


class Fleet:
    """Replicas, their store, and the requests that they have sent."""

    def __init__(
        self,
        *,
        tps: float,
        burst: float,
        expected: int = 1,
        latency: Callable[[], float] = lambda: 0.0,
        seed: int = 0,
    ) -> None:
        """Begin without replicas; each begins with the share of `expected` ones."""
        self.tps, self.burst, self.expected = tps, burst, expected
        self.latency = latency
        self.is_gone = False
        self.members: list[Member] = []
        self.sent: list[tuple[float, Member, str]] = []  # time, replica and caller
        self.refused = 0
        self.waits: list[float] = []
        self.random = random.Random(seed)
        self.wipe()

    def wipe(self) -> None:
        """Replace the store by an empty one."""
        self.memory = MemoryStore(clock=now)

    def add(self, number: int = 1) -> list[Member]:
        """Start further replicas."""
        added = [Member(self) for _ in range(number)]
        self.members += added
        return added

    async def settled(self, number: int) -> list[Member]:
        """Start replicas, and wait until all share the quota, whose bucket is full."""
        added = self.add(number)
        await asyncio.sleep(0.2)
        added[0].call()  # before it the store doesn't know the quota
        await asyncio.sleep(1.5 + (self.burst + 1) / self.tps)
        return added

    async def close(self) -> None:
        """End all replicas."""
        for each in self.members:
            each.kill()
        await asyncio.sleep(0)

    @property
    def commands(self) -> Counter[str]:
        """The commands that the store was asked for."""
        return sum((each.store.commands for each in self.members), Counter())

    def most(self, since: float = -inf) -> int:
        """Return the largest number of requests in any second."""
        times = sorted(at for at, *_ in self.sent if at >= since)
        most = first = 0
        for last, at in enumerate(times):
            while times[first] <= at - 1 + 1e-9:
                first += 1
            most = max(most, last - first + 1)
        return most

    def useful(self, begin: float, end: float) -> float:
        """Return the share of the rate that was used between two times."""
        used = sum(begin <= at < end for at, *_ in self.sent)
        return used / ((end - begin) * self.tps)


class Member:
    """A replica with its scheduler."""

    def __init__(self, fleet: Fleet) -> None:
        """Start it."""
        self.fleet = fleet
        self.process = Process()
        self.is_cut_off = False  # from the store
        self.is_killed = False
        self.store = FaultyStore(
            lambda: fleet.memory,
            latency=lambda: fleet.latency(),  # noqa: PLW0108  # a test changes it
            is_gone=lambda: self.is_cut_off or fleet.is_gone,
        )
        self.replica = Replica(
            self.store,
            replicas=fleet.expected,
            jitter=fleet.random.random,
            clock=now,
        )
        self.quota = SharedQuota(
            self.replica,
            lambda: "quota",
            tps=fleet.tps,
            burst=fleet.burst,
            clock=now,
            jitter=fleet.random.random,
        )
        self.scheduler = Scheduler(
            self.quota, poll_share=0.5, places=Bulkhead(inf), clock=now
        )
        self.process.start(self.replica.follow())

    def kill(self) -> None:
        """End it without notice."""
        self.is_killed = True
        self.process.kill()

    async def leave(self) -> None:
        """End it as a process ends that is stopped."""
        self.kill()
        await self.replica.leave()

    def call(
        self, caller: str = "", *, seconds: float = inf, connecting: float = 0.0
    ) -> asyncio.Task[None]:
        """Start a call, with a deadline and a time that its connection takes."""
        return self.process.start(
            self.one_call(caller, seconds=seconds, connecting=connecting)
        )

    async def one_call(
        self, caller: str = "", *, seconds: float = inf, connecting: float = 0.0
    ) -> None:
        """Have a turn, and send a request."""
        fleet, begun = self.fleet, now()
        try:
            call = OneCall(begun + seconds, caller=Caller(caller))
            at = await self.scheduler.turn(call)
        except NotAskedError:
            fleet.refused += 1
            return
        if connecting:
            await asyncio.sleep(connecting)
        await self.scheduler.depart()
        fleet.waits.append(now() - begun)
        fleet.sent.append((now(), self, caller))
        self.scheduler.leave(at)

    def callers(self, number: int) -> list[str]:
        """Start callers that each call again and again; return their names."""
        names = [f"{id(self)}-{at}" for at in range(number)]
        for each in names:
            self.process.start(self._calling(each))
        return names

    async def _calling(self, name: str) -> None:
        while not self.is_killed:
            await self.one_call(name)


async def gathered(*tasks: asyncio.Task[None]) -> None:
    """Wait for calls, of which some may be cancelled."""
    with suppress(asyncio.CancelledError):
        await asyncio.gather(*tasks, return_exceptions=True)
