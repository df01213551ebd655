"""What serves the load: three replicas, or one gateway with four workers."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Protocol

import grpc

from load.replicating.processes import sockets
from testkit.builders import ANYWHERE
from testkit.gateway_process import Served, serving

REPLICAS, WORKERS = 3, 4
LOOK_SECONDS = 0.02
MOST_START_SECONDS = 30.0
CALL_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Loss:
    """Connections that were lost with a process, and when their calls may fail."""

    begun: float  # of the monotonic clock
    ended: float
    channels: frozenset[int]  # of the callers: those that may have lost one
    most: int  # channels that have lost one


class Fleet(Protocol):
    """Processes that can be killed and frozen, by their number."""

    channels: int  # that the callers open
    losses: list[Loss]
    starts: list[float]  # seconds until a killed one was replaced by itself

    @property
    def addresses(self) -> list[str]:
        """The addresses that serve."""

    async def start(self, url: str, settings: Mapping[str, str]) -> None:
        """Start everything, with HealthOmics at `url`."""

    async def kill(self, number: int) -> None:
        """End one with SIGKILL."""

    async def again(self, number: int) -> None:
        """Start one again that was killed, unless it has been replaced by itself."""

    async def freeze(self, number: int) -> None:
        """Stop one with SIGSTOP."""

    async def thaw(self, number: int) -> None:
        """Let it continue."""

    async def stop(self) -> None:
        """End everything."""


@dataclass
class Replicas:
    """Gateways with one process each, at an address each."""

    number: int = REPLICAS
    channels: int = 3 * REPLICAS
    arguments: Sequence[str] = ()  # of the command line
    losses: list[Loss] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin without a process."""
        self._stacks = [AsyncExitStack() for _ in range(self.number)]
        self.served: dict[int, Served] = {}
        self._killed: dict[int, float] = {}

    @property
    def addresses(self) -> list[str]:
        """The addresses that serve."""
        return [self.served[at].address for at in range(self.number)]

    async def start(self, url: str, settings: Mapping[str, str]) -> None:
        """Start all replicas, one after the other."""
        self._url, self._settings = url, settings
        for at in range(self.number):
            await self._start(at, ANYWHERE)

    async def _start(self, number: int, listen: str) -> None:
        process = serving(
            self._url, arguments=self.arguments, listen=listen, **self._settings
        )
        self.served[number] = await self._stacks[number].enter_async_context(process)

    async def kill(self, number: int) -> None:
        """End a replica with SIGKILL."""
        self._killed[number] = time.monotonic()
        self.served[number].process.kill()
        await self.served[number].process.wait()

    async def again(self, number: int) -> None:
        """Start it again at its address."""
        address = self.served[number].address
        await self._stacks[number].aclose()
        await self._start(number, address)
        mine = frozenset(range(number, self.channels, self.number))
        begun = self._killed.pop(number)
        self.losses.append(Loss(begun, time.monotonic(), mine, len(mine)))

    async def freeze(self, number: int) -> None:
        """Stop a replica."""
        self.served[number].process.send_signal(signal.SIGSTOP)

    async def thaw(self, number: int) -> None:
        """Let it continue."""
        self.served[number].process.send_signal(signal.SIGCONT)

    async def stop(self) -> None:
        """End all replicas."""
        for stack in self._stacks:
            await stack.aclose()


@dataclass
class Workers:
    """One gateway whose workers share a port."""

    number: int = WORKERS
    channels: int = 6 * WORKERS  # the kernel spreads them over the workers
    losses: list[Loss] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin without a process."""
        self._stack = AsyncExitStack()
        self._pids: dict[int, int] = {}  # of the workers that are killed or frozen
        self._killed: dict[int, tuple[float, int]] = {}

    @property
    def addresses(self) -> list[str]:
        """The only address."""
        return [self.served.address]

    async def start(self, url: str, settings: Mapping[str, str]) -> None:
        """Start the gateway, and wait for all its workers."""
        workers = ("--workers", str(self.number))
        process = serving(url, arguments=workers, **settings)
        self.served = await self._stack.enter_async_context(process)
        await self._until(lambda: len(self._workers()) >= self.number)

    def _port(self) -> int:
        return int(self.served.address.rpartition(":")[2])

    def _workers(self) -> frozenset[int]:
        return sockets(self.served.process.pid, self._port()).listening

    async def kill(self, number: int) -> None:
        """End a worker with SIGKILL, and measure how long its successor takes."""
        before = self._workers()
        pid = sorted(before)[number]
        held = sockets(self.served.process.pid, self._port()).connections[pid]
        begun = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        self._killed[number] = begun, held
        await self._until(lambda: bool(self._workers() - before))
        (new,) = self._workers() - before
        await self._served_by(new)
        self.starts.append(time.monotonic() - begun)

    async def again(self, number: int) -> None:
        """Note that it has been replaced."""
        begun, held = self._killed.pop(number)
        every = frozenset(range(self.channels))
        self.losses.append(Loss(begun, time.monotonic(), every, held))

    async def _served_by(self, pid: int) -> None:
        """Open connections until a worker has one, and is ready on it."""
        async with asyncio.timeout(MOST_START_SECONDS):
            while True:
                own = [("grpc.use_local_subchannel_pool", 1)]
                async with grpc.aio.insecure_channel(self.served.address, own) as each:
                    await asyncio.wait_for(each.channel_ready(), CALL_SECONDS)
                    found = sockets(self.served.process.pid, self._port())
                    if found.connections.get(pid):
                        return

    async def freeze(self, number: int) -> None:
        """Stop a worker."""
        self._pids[number] = sorted(self._workers())[number]
        os.kill(self._pids[number], signal.SIGSTOP)

    async def thaw(self, number: int) -> None:
        """Let it continue, if it wasn't replaced."""
        if (pid := self._pids.pop(number)) in self._workers():
            os.kill(pid, signal.SIGCONT)

    async def stop(self) -> None:
        """End the gateway."""
        await self._stack.aclose()

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(MOST_START_SECONDS):
            while not condition():  # noqa: ASYNC110  # /proc has no events
                await asyncio.sleep(LOOK_SECONDS)  # between two looks at /proc
