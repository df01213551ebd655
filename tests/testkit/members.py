"""Replicas that share a store in memory, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

from healthomics_gateway.shared.names import Names
from healthomics_gateway.shared.replica import Replica
from healthomics_gateway.shared.seal import Sealer
from healthomics_gateway.shared.store import StoreError
from testkit.faulty_store import FaultyStore, Server
from testkit.freezing import Process
from testkit.virtual_time import now, virtually

CUT = StoreError("the connection is cut")

AsyncTest: TypeAlias = Callable[..., Coroutine[Any, Any, None]]


class Member:
    """One of the replicas; it has what `app.sharing.Sharing` asks for."""

    def __init__(
        self,
        server: Server,
        *,
        replicas: int,
        jitter: Callable[[], float] = lambda: 0.5,
    ) -> None:
        """Begin detached, with a known identity, as one of `replicas`."""
        self.process = Process()
        self.store = self.process.run(lambda: FaultyStore(server))
        self.replica = Replica(self.store, replicas=replicas, jitter=jitter, clock=now)
        self.wall_seconds = 0.0  # that its clock is ahead
        self.sealer = Sealer(
            b"secret", wall_clock=lambda: 1e9 + now() + self.wall_seconds
        )
        self.names = Names(self.sealer, region="us-east-1", endpoint="")
        self.names.learn(account="123456789012", identity="gateway")
        self.is_killed = False
        self.following = self.process.start(self.replica.follow())

    async def detach(self) -> None:
        """Cut it off from the store, and wait until it has noticed."""
        self.store.fault = CUT
        await until(lambda: not self.replica.is_attached)

    async def attach(self) -> None:
        """Connect it to the store, and wait until it has attached."""
        self.store.fault = None
        await until(lambda: self.replica.is_attached)

    def kill(self) -> None:
        """End its process without notice."""
        self.is_killed = True
        self.process.kill()


@asynccontextmanager
async def attached(number: int = 3) -> AsyncIterator[list[Member]]:
    """Start replicas with one store, and wait until all are attached.

    A command takes 1 ms.
    """
    server = Server()
    members = [Member(server, replicas=number) for _ in range(number)]
    everyone = {each.replica.id for each in members}
    for each in members:
        each.store.delay = lambda: 0.001
    try:
        await until(lambda: all(each.replica.attached == everyone for each in members))
        yield members
    finally:
        for each in members:
            each.kill()


def among(make: Callable[[Member], Any]) -> Callable[[AsyncTest], Callable[[], None]]:
    """Return a decorator that runs a test in virtual time, with several replicas.

    Each argument of the test is what `make` returns for another replica. If it has
    only one, there is a second replica all the same.
    """

    def decorate(test: AsyncTest) -> Callable[[], None]:
        async def work() -> None:
            number = test.__code__.co_argcount
            async with attached(max(number, 2)) as members:
                await test(*map(make, members[:number]))

        def run() -> None:
            virtually(work)

        run.__name__, run.__doc__ = test.__name__, test.__doc__
        return run

    return decorate


async def until(condition: Callable[[], bool], *, seconds: float = 30.0) -> None:
    """Wait until a condition holds."""
    end = now() + seconds
    while not condition():
        assert now() < end
        await asyncio.sleep(0.01)
