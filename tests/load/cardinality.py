"""Count the series of the metrics before and after many callers, runs and methods.

Callers with tokens of their own get runs, each run once, and call methods that don't
exist. None of that may add a series: the number depends on the settings alone. Ends
with 0 if the series are the same before and after, with 1 otherwise, and with 130 if it
was interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

import grpc
import structlog

from healthomics.v1.run_service_pb2 import GetRunRequest
from load.soaking.report import say
from testkit.callers import bearing, called, rule, token
from testkit.lying_upstream import LyingUpstream
from testkit.metrics import Scrape, page, parsed, scrape

CALLER = "spiffe://corp/ns/load/sa"
AT_ONCE = 64  # calls
DEADLINE_SECONDS = 30.0
TOKEN_SECONDS = 3600.0
RUNS_FROM = 1_000_000  # the first id
SHORT = 20  # a short form makes so many times fewer calls
INTERRUPTED = 130  # 128 + SIGINT, the shell's convention


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many different values the clients use."""

    callers: int = 10_000
    runs: int = 100_000
    methods: int = 1_000


@dataclass(frozen=True, slots=True)
class Result:
    """The metrics before and after."""

    before: Scrape
    after: Scrape
    page_seconds: float  # for the last request of the page

    @property
    def added(self) -> list[str]:
        """The series that there were not before."""
        new = set(self.after.values) - set(self.before.values)
        return sorted(f"{name} {sorted(labels)}" for name, labels in new)


async def measured(folder: Path, sizes: Sizes) -> Result:
    """Make all calls through a gateway, and request its metrics before and after."""
    rules = rule(f"{CALLER}/*"), rule("*", methods=["WatchRun"])
    async with (
        called(folder, *rules, upstream=LyingUpstream()) as gateway,
        grpc.aio.insecure_channel(str(gateway.served.address)) as channel,
    ):
        before = await scrape(gateway.served)
        tokens = [token(f"{CALLER}/{at}", exp=_later()) for at in range(sizes.callers)]

        async def get(at: int) -> None:
            request = GetRunRequest(id=str(RUNS_FROM + at))
            metadata = bearing(tokens[at % len(tokens)])
            await gateway.stub.GetRun(
                request, timeout=DEADLINE_SECONDS, metadata=metadata
            )

        async def guess(at: int) -> None:
            call = channel.unary_unary(f"/no.Such{at}/Method")
            try:
                await call(b"", timeout=DEADLINE_SECONDS)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
                    raise

        await _each(get, max(sizes.runs, sizes.callers))
        await _each(guess, sizes.methods)
        begun = time.perf_counter()
        text = await page(gateway.served.admin_address)
        page_seconds = time.perf_counter() - begun
        return Result(before, parsed(text), page_seconds)


def _later() -> float:
    return time.time() + TOKEN_SECONDS


async def _each(call: Callable[[int], Awaitable[None]], number: int) -> None:
    """Await `call` for each of so many numbers, some at a time."""
    numbers = iter(range(number))

    async def some() -> None:
        for at in numbers:
            await call(at)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(AT_ONCE):
            tasks.create_task(some())


def lines(result: Result, sizes: Sizes) -> Iterator[str]:
    """Yield the lines of the report."""
    calls = result.after.value("grpc_server_handled_total")
    yield (
        f"{sizes.callers:,} callers, {sizes.runs:,} runs, {sizes.methods:,} methods"
        f" that don't exist, in {calls:,.0f} calls"
    )
    yield f"series before: {len(result.before.values):,}"
    yield f"series after:  {len(result.after.values):,}"
    yield f"the page took {result.page_seconds * 1000:,.0f} ms"
    yield from (f"added: {each}" for each in result.added)


@asynccontextmanager
async def _without_log() -> AsyncIterator[None]:
    """Drop the events of the log, which has a line for each call."""

    def drop(*_: Any) -> NoReturn:
        raise structlog.DropEvent

    structlog.configure(processors=[drop])
    try:
        yield
    finally:
        structlog.reset_defaults()


async def _run(sizes: Sizes) -> int:
    with TemporaryDirectory() as folder:
        async with _without_log():
            result = await measured(Path(folder), sizes)
    say(*lines(result, sizes))
    return 1 if result.added else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="cardinality",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    text = f"make a {SHORT}th of the calls"
    parser.add_argument("--short", action="store_true", help=text)
    part = SHORT if parser.parse_args(arguments).short else 1
    usual = Sizes()
    sizes = Sizes(usual.callers // part, usual.runs // part, usual.methods // part)
    try:
        return asyncio.run(_run(sizes))
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
