"""Subscriptions of a replica, and their renewal beside its beats, in virtual time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from healthomics_gateway.shared.local import LocalStore
from healthomics_gateway.shared.memory import MemoryStore
from healthomics_gateway.shared.pace import BEAT_SECONDS
from healthomics_gateway.shared.replica import Replica
from healthomics_gateway.shared.store import ALIVE_SECONDS, Members, StoreError
from healthomics_gateway.shared.subscriptions import AT_ONCE
from testkit.virtual_time import virtually


class Slow(LocalStore):
    """A store that needs a time for each subscription, and notes when it is used."""

    seconds = 0.04
    error: StoreError | None = None

    def __init__(self, memory: MemoryStore) -> None:
        """Begin without commands."""
        super().__init__(memory)
        self.beats: list[float] = []
        self.names: Counter[str] = Counter()

    async def beat(self, replica: str, *, is_attached: bool, known: int) -> Members:
        """Note the time."""
        self.beats.append(asyncio.get_running_loop().time())
        return await super().beat(replica, is_attached=is_attached, known=known)

    async def subscribe(self, name: str) -> None:
        """Subscribe after a time."""
        await asyncio.sleep(self.seconds)
        if self.error:
            raise self.error
        self.names[name] += 1
        await super().subscribe(name)


class Rig:
    """A replica that has subscribed to entries before it follows its store."""

    def __init__(self) -> None:
        """Begin without subscriptions."""
        self.memory = MemoryStore(clock=asyncio.get_running_loop().time)
        self.store = Slow(self.memory)
        clock = asyncio.get_running_loop().time
        self.replica = Replica(self.store, replicas=1, jitter=lambda: 1.0, clock=clock)
        self.got: list[bytes] = []

    async def subscribe(self, number: int) -> None:
        """Subscribe to so many entries."""
        for each in range(number):
            await self.replica.subscribe(str(each), self.got.append)

    def write(self, name: str, value: bytes) -> None:
        """Write a value, and so publish it."""
        self.memory.write(name, "x", value, age_seconds=0.0, keep_seconds=1.0)


def in_rig(test: Callable[[Rig], Any]) -> None:
    """Run a test in virtual time; when the replica leaves, no task is left."""

    async def run() -> None:
        rig = Rig()
        await test(rig)
        await rig.replica.leave()
        await asyncio.sleep(2 * BEAT_SECONDS)
        assert {asyncio.current_task()} == asyncio.all_tasks()

    virtually(run)


def test_renewal_of_many_subscriptions_delays_no_beat() -> None:
    """Else the others count this replica as dead meanwhile."""

    async def test(rig: Rig) -> None:
        number = 100 * AT_ONCE
        await rig.subscribe(number)
        following = asyncio.create_task(rig.replica.follow())
        await asyncio.sleep(100 * rig.store.seconds + 1.0)
        assert [1] * number == list(rig.store.names.values())
        beats = rig.store.beats
        gaps = [after - before for before, after in pairwise(beats)]
        assert max(gaps) < ALIVE_SECONDS / 2
        assert rig.replica.is_attached
        assert not following.done()

    in_rig(test)


def test_renewal_ends_with_the_replica() -> None:
    """It asks nothing of the store afterwards."""

    async def test(rig: Rig) -> None:
        await rig.subscribe(3 * AT_ONCE)
        following = asyncio.create_task(rig.replica.follow())
        await asyncio.sleep(rig.store.seconds * 1.5)
        await rig.replica.leave()
        await asyncio.sleep(1.0)
        assert AT_ONCE <= rig.store.names.total() <= 2 * AT_ONCE
        assert following.done()

    in_rig(test)


def test_renewal_that_fails_is_made_again() -> None:
    """The replica is detached by it once, and attaches again."""

    async def test(rig: Rig) -> None:
        await rig.subscribe(2 * AT_ONCE)
        rig.store.error = StoreError("it is gone")
        following = asyncio.create_task(rig.replica.follow())
        await asyncio.sleep(rig.store.seconds * 1.5)
        assert not rig.replica.is_attached
        assert rig.replica.errors < AT_ONCE / 2
        rig.store.error = None
        await asyncio.sleep(2.0)
        assert rig.replica.is_attached
        rig.write("7", b"value")
        assert [b"value"] == rig.got
        assert not following.done()

    in_rig(test)


def test_subscription_that_ends_is_not_renewed() -> None:
    """The store would deliver its values for ever."""

    async def test(rig: Rig) -> None:
        await rig.subscribe(2 * AT_ONCE)
        last = str(2 * AT_ONCE - 1)
        following = asyncio.create_task(rig.replica.follow())
        await asyncio.sleep(rig.store.seconds / 2)
        await rig.replica.unsubscribe(last)
        await asyncio.sleep(1.0)
        assert 2 * AT_ONCE - 1 == rig.store.names.total()
        assert 0 == rig.store.names[last]
        assert not following.done()

    in_rig(test)
