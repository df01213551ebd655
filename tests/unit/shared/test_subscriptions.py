"""Subscriptions of a replica, and their renewal beside its beats, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from healthomics_gateway.shared.pace import BEAT_SECONDS
from healthomics_gateway.shared.store import ALIVE_SECONDS, StoreError
from healthomics_gateway.shared.subscriptions import AT_ONCE
from testkit.faulty_store import Server
from testkit.members import Member, until
from testkit.virtual_time import virtually

SECONDS = 0.04  # that a command takes


class Rig:
    """A replica that has subscribed to entries before it has attached."""

    def __init__(self) -> None:
        """Begin without subscriptions."""
        self.server = Server()
        self.member = Member(self.server, replicas=1, jitter=lambda: 1.0)
        self.replica, self.store = self.member.replica, self.member.store
        self.store.delay = lambda: SECONDS
        self.got: list[bytes] = []

    async def subscribe(self, number: int) -> None:
        """Subscribe to so many entries."""
        for each in range(number):
            await self.replica.subscribe(str(each), self.got.append)
        assert 0 == self.store.commands["subscribe"]

    async def renew(self) -> None:
        """Wait until the replica has attached, and the renewal has begun."""
        await until(lambda: self.store.commands["subscribe"] > 0)

    def is_alive(self) -> bool:
        """Return whether another replica sees that it is alive and attached."""
        members = self.server.memory.beat("other", is_attached=False, known=2)
        return self.replica.id in members.attached

    def write(self, name: str) -> None:
        """Write a value, the name of the entry, and so publish it."""
        value = name.encode()
        self.server.memory.write(name, "x", value, age_seconds=0.0, keep_seconds=1.0)


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
        await rig.renew()
        seen = set()
        while rig.store.commands["subscribe"] < number:
            seen.add(rig.is_alive())
            await asyncio.sleep(ALIVE_SECONDS / 10)
        await asyncio.sleep(SECONDS)
        for each in range(number):
            rig.write(str(each))
        await asyncio.sleep(SECONDS)
        assert number == rig.store.commands["subscribe"] == len(set(rig.got))
        assert {True} == seen  # it has always been alive
        assert rig.replica.is_attached

    in_rig(test)


def test_renewal_ends_with_the_replica() -> None:
    """It asks nothing of the store afterwards."""

    async def test(rig: Rig) -> None:
        await rig.subscribe(3 * AT_ONCE)
        await rig.renew()
        await asyncio.sleep(SECONDS)
        await rig.replica.leave()
        await asyncio.sleep(1.0)
        assert 2 * AT_ONCE == rig.store.commands["subscribe"]
        assert rig.member.following.done()

    in_rig(test)


def test_renewal_that_fails_is_made_again() -> None:
    """The replica is detached by it once, and attaches again."""

    async def test(rig: Rig) -> None:
        await rig.subscribe(2 * AT_ONCE)
        rig.store.faults["subscribe"] = StoreError("it is gone")
        await rig.renew()
        assert not rig.replica.is_attached
        assert AT_ONCE == rig.store.commands["subscribe"]
        rig.store.faults.clear()
        await asyncio.sleep(2.0)
        assert rig.replica.is_attached
        rig.write("7")
        await asyncio.sleep(0)
        assert [b"7"] == rig.got
        assert not rig.member.following.done()

    in_rig(test)


def test_subscription_that_ends_is_not_renewed() -> None:
    """The store would deliver its values for ever."""

    async def test(rig: Rig) -> None:
        await rig.subscribe(2 * AT_ONCE)
        await rig.renew()
        await rig.replica.unsubscribe(str(2 * AT_ONCE - 1))
        await asyncio.sleep(1.0)
        assert 2 * AT_ONCE - 1 == rig.store.commands["subscribe"]
        assert not rig.member.following.done()

    in_rig(test)
