"""Flood the gateway with each abuse of HTTP/2, while another client makes calls.

The gateway, its upstream, the attacker and the client that must not be affected are
four processes. Ends with 0 if all calls of that client were answered, its 99th
percentile rose at most tenfold (the median of at least three rounds; with fewer it
isn't judged) and the gateway took at most 64 MiB; with 1 otherwise; with 130 if it was
interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import math
import multiprocessing
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import grpc

from load.attackers import MOST_SECONDS
from load.attacks import ATTACKS, FIRST_ID, STREAMS, UNKNOWN_CALLERS
from load.soaking.process import memory_and_threads
from load.soaking.report import say
from load.soaking.samples import percentile
from testkit.builders import get_run, http
from testkit.callers import bearing, settings_of_tokens, token
from testkit.gateway_process import Served, client, serving
from testkit.lying_upstream import (
    TRUE_ID,
    Answer,
    LyingUpstream,
    Request,
    Wait,
    true_run,
)

USUAL_SECONDS, USUAL_ROUNDS, MOST_ROUNDS = 5.0, 3, 20
LEAST_SECONDS = 1.0
LEAD_SECONDS = 0.5  # that an attack lasts longer than the measurement
REST_SECONDS = 1.0  # between a flood and the next measurement without one
RATE = 50.0  # of the client's calls, a second
WARM_CALLS = 200
DEADLINE_SECONDS = 10.0
TOKEN_SECONDS = 3600.0
WATCH_SECONDS = 0.05  # between two readings of the memory
MAX_RATIO = 10.0
MAX_GROWTH_MIB = 64.0
# The cache has a limit of its own, and large answers would fill it.
SETTINGS = {"GATEWAY_CACHE__MAX_BYTES": "1048576"}
INTERRUPTED = 130  # 128 + SIGINT, the shell's convention

ALL = ATTACKS | UNKNOWN_CALLERS
FLOODS = [
    (name, size, rate)
    for name, each in ALL.items()
    for size, rate in (each.sizes or {0: each.rate}).items()
]
# With unauthenticated attackers the client has an identity, and HealthOmics is slow.
LATENCY_SECONDS = 0.02


@dataclass(slots=True)
class Calls:
    """The results of the client's calls."""

    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def p99_ms(self) -> float:
        """The 99th percentile of its answers."""
        return percentile(self.seconds, 0.99) * 1000


@dataclass(slots=True)
class Row:
    """The results of one attack, round by round."""

    title: str
    unit: str
    rates: list[float] = field(default_factory=list)  # units a second
    closed: int = 0  # of the attacker's connections, by the gateway
    quiet: list[Calls] = field(default_factory=list)
    flooded: list[Calls] = field(default_factory=list)
    growth_mib: float = 0.0  # more than before the first flood

    @property
    def errors(self) -> list[str]:
        """The errors that the client received instead of answers."""
        return [error for calls in self.flooded + self.quiet for error in calls.errors]

    @property
    def ratio(self) -> float:
        """How much the 99th percentile rose: the median of the rounds."""
        pairs = zip(self.flooded, self.quiet, strict=True)
        return median(flooded.p99_ms / quiet.p99_ms for flooded, quiet in pairs)

    def faults(self) -> Iterator[str]:
        """Return what is wrong; with few rounds times aren't judged."""
        for error in sorted(set(self.errors)):
            yield f"{self.errors.count(error)} calls ended with {error}"
        if len(self.flooded) >= USUAL_ROUNDS and not self.ratio <= MAX_RATIO:
            yield f"p99 rose {self.ratio:.1f} times, beyond {MAX_RATIO:g}"
        if self.growth_mib > MAX_GROWTH_MIB:
            yield f"memory grew {self.growth_mib:.1f} MiB, beyond {MAX_GROWTH_MIB:g}"


async def call_on(stub: Any, seconds: float) -> Calls:
    """Make calls at a steady rate, without waiting for earlier calls."""
    calls = Calls()

    async def call() -> None:
        begun = time.monotonic()
        try:
            await get_run(stub, TRUE_ID, seconds=DEADLINE_SECONDS)
        except grpc.aio.AioRpcError as error:
            calls.errors.append(f"{error.code().name}: {error.details()}")
        else:
            calls.seconds.append(time.monotonic() - begun)

    begun = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for at in range(int(seconds * RATE)):
            # Earlier calls don't change the rate.
            await asyncio.sleep(begun + at / RATE - time.monotonic())
            group.create_task(call())
    return calls


@asynccontextmanager
async def attacking(
    name: str, address: str, *, rate: float, seconds: float
) -> AsyncIterator[Row]:
    """Attack from another process, and store its results at the end."""
    attack = ALL[name]
    row = Row(attack.title, attack.unit)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "load.attackers", name, address),
        *("--seconds", f"{seconds:g}", "--rate", f"{rate:g}"),
        stdout=PIPE,
    )
    try:
        assert process.stdout
        await process.stdout.readline()  # set when it has begun
        yield row
        result = json.loads(await process.stdout.readline())
        await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
    row.rates.append(result["sent"] / seconds)
    row.closed = result["closed"]


async def highest_memory(pid: int, seen: list[float]) -> None:
    """Add the process's memory to `seen`, again and again."""
    while True:
        seen.append(memory_and_threads(pid)[0])
        await asyncio.sleep(WATCH_SECONDS)  # /proc has no event


async def flood(
    name: str, size: int, *, rate: float, seconds: float, rounds: int
) -> Row:
    """Measure one attack on a new gateway."""
    attack = ALL[name]
    title = f"{attack.title}, {size // 1000} KB each" if size else attack.title
    row = Row(title, attack.unit)
    is_unauthenticated = name in UNKNOWN_CALLERS
    async with AsyncExitStack() as stack:
        settings = SETTINGS
        if is_unauthenticated:
            folder = stack.enter_context(TemporaryDirectory())
            settings = SETTINGS | settings_of_tokens(Path(folder))
        latency = LATENCY_SECONDS if is_unauthenticated else 0.0
        url = await stack.enter_async_context(_upstream(size, latency))
        served = await stack.enter_async_context(serving(url, **settings))
        stub = await stack.enter_async_context(client(served))
        if is_unauthenticated:
            stub = _Known(stub)
        for _ in range(WARM_CALLS):
            await get_run(stub, TRUE_ID)
        gc.disable()  # this process's own pauses aren't the gateway's
        before = math.inf
        for number in range(1, rounds + 1):
            row.quiet.append(await call_on(stub, seconds))
            before = min(before, memory_and_threads(served.process.pid)[0])
            highest = await _one_flood(
                name, row, served, stub, rate=rate, seconds=seconds
            )
            row.growth_mib = max(row.growth_mib, highest - before)
            say(
                f"{title}, round {number} of {rounds}:"
                f" {row.rates[-1]:,.0f} {row.unit} a second,"
                f" p99 {row.quiet[-1].p99_ms:.1f} ms,"
                f" then {row.flooded[-1].p99_ms:.1f} ms, {len(row.errors)} errors,"
                f" +{row.growth_mib:.1f} MiB"
            )
            gc.collect()
            await asyncio.sleep(REST_SECONDS)  # the streams of the flood end here
    return row


async def _one_flood(
    name: str, row: Row, served: Served, stub: Any, *, rate: float, seconds: float
) -> float:
    """Make calls during an attack; return the gateway's highest memory in MiB."""
    seen: list[float] = []
    watching = asyncio.create_task(highest_memory(served.process.pid, seen))
    lasting = seconds + LEAD_SECONDS
    try:
        async with attacking(
            name, served.address, rate=rate, seconds=lasting
        ) as attack:
            row.flooded.append(await call_on(stub, seconds))
    finally:
        watching.cancel()
    row.rates += attack.rates
    row.closed += attack.closed
    return max(seen)


class _Known:
    """A client whose calls have a token."""

    def __init__(self, stub: Any) -> None:
        self._stub = stub
        self._metadata = bearing(token(exp=time.time() + TOKEN_SECONDS))

    def GetRun(self, request: Any, *, timeout: float) -> Any:  # noqa: N802  # as a stub's method
        return self._stub.GetRun(request, timeout=timeout, metadata=self._metadata)


@asynccontextmanager
async def _upstream(size: int, latency_seconds: float) -> AsyncIterator[str]:
    """Serve HealthOmics in a separate process."""
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    process = context.Process(
        target=serve_upstream, args=(theirs, size, latency_seconds), daemon=True
    )
    process.start()
    theirs.close()
    try:
        yield await asyncio.to_thread(ours.recv)
    finally:
        process.terminate()
        process.join()


def serve_upstream(pipe: Connection, size: int, latency_seconds: float = 0.0) -> None:
    """Send its address through `pipe`; answer the attacker's runs with `size` bytes."""

    def truth(request: Request) -> Answer:
        answer = http(true_run(request.run_id))
        return [Wait(latency_seconds), answer] if latency_seconds else answer

    def large(request: Request) -> Answer:
        return http(true_run(request.run_id, parameters={"sample": "x" * size}))

    async def serve() -> None:
        async with LyingUpstream(truth=truth) as upstream:
            for at in range(STREAMS if size else 0):
                upstream.lie(str(FIRST_ID + at), large)
            pipe.send(upstream.url)
            await asyncio.Future[None]()

    asyncio.run(serve())


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Return a line for each attack."""
    yield (
        f"{'attack':42}{'a second':>16}{'closed':>8}{'calls':>7}{'errors':>8}"
        f"{'p99 ms':>8}{'flooded':>9}{'ratio':>7}{'MiB':>7}"
    )
    for row in rows:
        calls = sum(len(each.seconds) for each in row.flooded) + len(row.errors)
        yield (
            f"{row.title:42}{f'{median(row.rates):,.0f} {row.unit}':>16}"
            f"{row.closed:>8}{calls:>7}{len(row.errors):>8}"
            f"{median(each.p99_ms for each in row.quiet):>8.1f}"
            f"{median(each.p99_ms for each in row.flooded):>9.1f}"
            f"{row.ratio:>7.1f}{row.growth_mib:>+7.1f}"
        )
    yield f"the client makes {RATE:g} calls a second; ratios are medians of the rounds"


async def _all(options: argparse.Namespace) -> list[Row]:
    return [
        await flood(
            name, size, rate=rate, seconds=options.seconds, rounds=options.rounds
        )
        for name, size, rate in FLOODS
        if not options.attack or name in options.attack
    ]


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="flood",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "attack", nargs="*", metavar="ATTACK", help=f"one of {', '.join(ALL)}"
    )
    made.add_argument(
        "--seconds",
        type=float,
        default=USUAL_SECONDS,
        help="duration of each measurement (default %(default)g)",
    )
    made.add_argument(
        "--rounds",
        type=int,
        default=USUAL_ROUNDS,
        help="measurements of each attack (default %(default)d)",
    )
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code."""
    made = parser()
    options = made.parse_args(arguments)
    if unknown := set(options.attack) - ALL.keys():
        made.error(f"no such attack: {', '.join(sorted(unknown))}")
    if not LEAST_SECONDS <= options.seconds <= MOST_SECONDS - LEAD_SECONDS:
        made.error(f"--seconds: write {LEAST_SECONDS:g} to {MOST_SECONDS - 1:g}")
    if not 1 <= options.rounds <= MOST_ROUNDS:
        made.error(f"--rounds: write 1 to {MOST_ROUNDS}")
    try:
        rows = asyncio.run(_all(options))
    except KeyboardInterrupt:
        return INTERRUPTED
    say(*table(rows))
    faults = [f"FAILED {row.title}: {each}" for row in rows for each in row.faults()]
    say(*faults or ["ok: no call was lost"])
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
