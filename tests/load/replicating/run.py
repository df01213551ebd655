"""Runs one load: the account, the store, what serves, the callers, and the faults."""

from __future__ import annotations

import asyncio
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from load.replicating import account, store
from load.replicating.callers import OPENED_A_SECOND, Sizes
from load.replicating.faults import Fault, Happened, Scene
from load.replicating.fleet import REPLICAS, Fleet
from load.replicating.judge import Limits, Measured
from load.replicating.runs import Arrival, Lives
from load.replicating.seen import Failure, Seen
from load.soaking.report import say

SETTLED_SECONDS = 4.0  # after the last watch has been opened
REPORT_SECONDS = 10.0
END_PERIODS = 3  # of the polls: for the watches to see the last ends
CALLERS_SECONDS = 30.0  # for the callers to print what they saw
FIRST_END_SHARE = 0.3  # of the time: then the first watched run ends


@dataclass(frozen=True, slots=True)
class Plan:
    """One load."""

    seconds: float
    sizes: Sizes
    limits: Limits
    faults: Sequence[Fault]
    has_store: bool

    @property
    def lives(self) -> Lives:
        """The states of the watched runs: the last one ends with the load."""
        runs = self.sizes.watched_runs
        return Lives(runs, self.seconds * FIRST_END_SHARE, self.seconds)

    @property
    def opened_by(self) -> float:
        """When all watches are open, in seconds since the load began."""
        return self.sizes.watches / OPENED_A_SECOND + SETTLED_SECONDS

    def settings(self) -> dict[str, str]:
        """Return the settings of each gateway, without the store's URL."""
        limits = self.limits
        return {
            "GATEWAY_QUOTA__TPS": f"{limits.tps:g}",
            "GATEWAY_QUOTA__BURST": f"{limits.burst:g}",
            "GATEWAY_WATCH__INTERVAL": f"{limits.period_seconds:g}s",
        }


async def measure(plan: Plan, fleet: Fleet) -> Measured:
    """Run the load, and return everything that is judged."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        file = folder / "arrivals"
        fake = await stack.enter_async_context(account.running(plan.lives, file))
        settings = plan.settings() | {"AWS_ENDPOINT_URL_STS": fake.sts}
        scene = Scene(fleet)
        if plan.has_store:
            valkey, line = await stack.enter_async_context(store.serving())
            scene = Scene(fleet, valkey, line)
            settings |= store.settings(line.port, replicas=REPLICAS)
        stack.push_async_callback(fleet.stop)
        await fleet.start(fake.url, settings)
        callers = await stack.enter_async_context(_calling(fleet, plan.sizes))
        begun = time.monotonic()
        fake.begin(begun)
        faults, _ = await asyncio.gather(
            _happen(plan.faults, scene, begun), _show(file, begun, plan.seconds)
        )
        # Until the watches have seen the last ends.
        await asyncio.sleep(END_PERIODS * plan.limits.period_seconds)
        async with asyncio.timeout(CALLERS_SECONDS):
            output, _ = await callers.communicate(b"")  # ends its input
        arrivals = list(account.arrivals(file))
    seen = Seen.load(output)
    return Measured(
        seconds=plan.seconds,
        opened_by=plan.opened_by,
        arrivals=_since(begun, arrivals),
        seen=replace(
            seen,
            failures=_since(begun, seen.failures),
            ends={watch: at - begun for watch, at in seen.ends.items()},
        ),
        faults=faults,
        losses=[
            replace(e, begun=e.begun - begun, ended=e.ended - begun)
            for e in fleet.losses
        ],
        starts=fleet.starts,
        lives=plan.lives,
        limits=plan.limits,
    )


@asynccontextmanager
async def _calling(fleet: Fleet, sizes: Sizes) -> AsyncIterator[Process]:
    options = (
        f"--{name.replace('_', '-')}={getattr(sizes, name)}"
        for name in Sizes.__dataclass_fields__
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "load.replicating.callers"),
        *(",".join(fleet.addresses), str(fleet.channels), *options),
        stdin=PIPE,
        stdout=PIPE,
        limit=1 << 26,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _happen(
    faults: Sequence[Fault], scene: Scene, begun: float
) -> list[Happened]:
    """Let each fault happen at its time; return when each did."""
    happened = []
    for fault in faults:
        # Until the fault's time.
        await asyncio.sleep(begun + fault.at - time.monotonic())
        first = time.monotonic() - begun
        say(f"{first:6.1f} s  {fault.name}")
        await fault.begin(scene)
        # Until its end.
        await asyncio.sleep(begun + fault.at + fault.lasts - time.monotonic())
        await fault.end(scene)
        last = time.monotonic() - begun
        say(f"{last:6.1f} s  {fault.name}: over")
        happened.append(Happened(fault.name, first, last, fault.low_seconds))
    return happened


async def _show(file: Path, begun: float, seconds: float) -> None:
    """Print a line of progress now and then, until the load is over."""
    shown = 0
    while (left := begun + seconds - time.monotonic()) > 0:
        await asyncio.sleep(min(left, REPORT_SECONDS))  # until the next line
        number = sum(1 for _ in account.arrivals(file))
        say(f"{time.monotonic() - begun:6.1f} s  {number - shown} requests more")
        shown = number


Timed = TypeVar("Timed", Arrival, Failure)


def _since(begun: float, times: Sequence[Timed]) -> list[Timed]:
    """Return the same with times that count from `begun`."""
    return [replace(each, at=each.at - begun) for each in times]
