"""Replicas that share a store in memory, in virtual time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

from healthomics_gateway.shared.local import LocalStore
from healthomics_gateway.shared.memory import MemoryStore
from healthomics_gateway.shared.names import Names
from healthomics_gateway.shared.replica import Replica
from healthomics_gateway.shared.seal import Sealer
from healthomics_gateway.shared.store import StoreError
from testkit.virtual_time import virtually

AsyncTest: TypeAlias = Callable[..., Coroutine[Any, Any, None]]


class Wire:
    """A replica's way to the store, which counts commands, and can be cut."""

    unreached = ""

    def __init__(self, memory: MemoryStore) -> None:
        """Begin without a fault."""
        self.memory = memory
        self.seconds = 0.001  # that a command takes
        self.fault: StoreError | None = None  # of commands, beats included
        self.faults: dict[str, StoreError] = {}  # by the name of the command
        self.answers: dict[str, Any] = {}  # instead of the store's, by the same
        self.commands: Counter[str] = Counter()

    def deliver_to(self, deliver: Callable[[str, bytes], None]) -> None:
        """Deliver nothing."""

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        """Return a command of the store."""

        async def command(*args: Any, **fields: Any) -> Any:
            self.commands[name] += 1
            if fault := self.fault or self.faults.get(name):
                raise fault
            await asyncio.sleep(self.seconds / 2)
            if name in self.answers:
                done = self.answers[name]
            else:
                done = await getattr(LocalStore(self.memory), name)(*args, **fields)
            await asyncio.sleep(self.seconds / 2)
            return done

        return command


class Member:
    """One of the replicas; it has what `app.sharing.Sharing` asks for."""

    def __init__(self, memory: MemoryStore, *, replicas: int) -> None:
        """Begin detached, with a known identity."""
        self.wire = Wire(memory)
        self.replica = Replica(
            self.wire, replicas=replicas, jitter=lambda: 0.5, clock=now
        )
        self.wall_seconds = 0.0  # that its clock is ahead
        self.sealer = Sealer(b"secret", wall_clock=lambda: now() + self.wall_seconds)
        self.names = Names(self.sealer, region="us-east-1", endpoint="")
        self.names.learn(account="123456789012", identity="gateway")

    async def detach(self) -> None:
        """Cut the wire, and wait until the replica has noticed."""
        self.wire.fault = StoreError("cut")
        await until(lambda: not self.replica.is_attached)

    async def attach(self) -> None:
        """Repair the wire, and wait until the replica has attached."""
        self.wire.fault = None
        await until(lambda: self.replica.is_attached)


@asynccontextmanager
async def fleet(number: int = 3) -> AsyncIterator[list[Member]]:
    """Start replicas with one store, in a virtual loop; wait until all are attached."""
    memory = MemoryStore(clock=now)
    members = [Member(memory, replicas=number) for _ in range(number)]
    beats = [asyncio.create_task(each.replica.follow()) for each in members]
    everyone = {each.replica.id for each in members}
    try:
        await until(lambda: all(each.replica.attached == everyone for each in members))
        yield members
    finally:
        for task in beats:
            task.cancel()


def among(make: Callable[[Member], Any]) -> Callable[[AsyncTest], Callable[[], None]]:
    """Return a decorator that runs a test in virtual time, with several replicas.

    Each argument of the test is what `make` returns for another replica. If it has
    only one, there is a second replica all the same.
    """

    def decorate(test: AsyncTest) -> Callable[[], None]:
        async def work() -> None:
            number = test.__code__.co_argcount
            async with fleet(max(number, 2)) as members:
                await test(*map(make, members[:number]))

        def run() -> None:
            virtually(work)

        run.__name__, run.__doc__ = test.__name__, test.__doc__
        return run

    return decorate


def now() -> float:
    """Return the virtual time."""
    return asyncio.get_running_loop().time()


async def until(condition: Callable[[], bool], *, seconds: float = 30.0) -> None:
    """Wait until a condition holds."""
    end = now() + seconds
    while not condition():
        assert now() < end
        await asyncio.sleep(0.01)
