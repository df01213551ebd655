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
from testkit.faulty_store import Server
from testkit.members import Member
from testkit.virtual_time import now


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
        self.server = Server()
        self.members: list[Sender] = []
        self.sent: list[tuple[float, Sender, str]] = []  # time, replica and caller
        self.refused = 0
        self.waits: list[float] = []
        self.random = random.Random(seed)

    def add(self, number: int = 1) -> list[Sender]:
        """Start further replicas."""
        added = [Sender(self) for _ in range(number)]
        self.members += added
        return added

    async def settled(self, number: int) -> list[Sender]:
        """Start replicas, and wait until all share the quota, whose bucket is full."""
        added = self.add(number)
        await asyncio.sleep(0.2)
        added[0].call()  # before it the store doesn't know the quota
        await asyncio.sleep(1.5 + (self.burst + 1) / self.tps)
        return added

    async def close(self) -> None:
        """End all replicas."""
        for each in self.members:
            each.member.kill()
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


class Sender:
    """A replica with its scheduler."""

    def __init__(self, fleet: Fleet) -> None:
        """Start it."""
        self.fleet = fleet
        self.member = member = Member(
            fleet.server, replicas=fleet.expected, jitter=fleet.random.random
        )
        self.store, self.replica, self.process = (
            member.store,
            member.replica,
            member.process,
        )
        self.store.delay = lambda: fleet.latency()  # noqa: PLW0108  # a test changes it
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

    async def leave(self) -> None:
        """End it as a process ends that is stopped."""
        self.member.kill()
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
        while not self.member.is_killed:
            await self.one_call(name)


async def gathered(*tasks: asyncio.Task[None]) -> None:
    """Wait for calls, of which some may be cancelled."""
    with suppress(asyncio.CancelledError):
        await asyncio.gather(*tasks, return_exceptions=True)
