"""End gateways with SIGTERM while 300 calls are under way, and count the lost calls.

Each time one of two gateways behind the same channel ends, and its client uses the
documented service config: no call may fail. Then a gateway ends that is alone, and its
clients retry nothing: only calls that arrive late, or outlast the drain time, may be
refused with the advice to retry elsewhere. Ends with 0 if nothing was lost and every
process ended well and in time, with 1 otherwise, and with 130 if it was interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any, Self

import grpc

from load.soaking.report import say
from testkit.builders import Refusal, get_run, http
from testkit.gateway_process import (
    SERVICE_CONFIG,
    STOP_SECONDS,
    Served,
    client,
    serving,
)
from testkit.lying_upstream import Answer, LyingUpstream, Request, Wait, true_run

CALLERS = 300
IDS = [str(4_000_001 + at) for at in range(CALLERS)]  # a different run for each caller
ANSWER_SECONDS = (0.4, 0.8)  # that HealthOmics takes
DEADLINE_SECONDS = 30.0
DRAIN_SECONDS = 3.0
# The default. The drain ends as soon as the client has moved to the other gateway, for
# which it needs more than 3 s on a busy machine.
BESIDE_DRAIN_SECONDS = 25.0
SETTINGS = {"GATEWAY_UPSTREAM__MAX_CONCURRENT": str(CALLERS)}  # no call waits
OPEN_SHARE = 0.8  # of the drain time, during which new calls are accepted
CLOCKS_SECONDS = 0.05  # by which the gateway's drain and this clock may differ
ELSEWHERE = {"GATEWAY_DRAINING", "UNAVAILABLE"}  # the latter if nothing listens
BACK_SECONDS = (0.05, 0.5)  # after which a refused caller calls again
MOST_TIMES = 1000
USUAL_TIMES = 10
INTERRUPTED = 130  # 128 + SIGINT, the shell's convention


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended."""

    status: str  # OK, the reason, or the code if there is no reason
    ended: float
    is_accepted: bool  # HealthOmics received a request for it


@dataclass(slots=True)
class Ending:
    """How a gateway ended, and how the calls ended."""

    exit_code: int | None  # None unless it ended in time
    seconds: float
    calls: int = 0
    lost: Counter[str] = field(default_factory=Counter)  # by reason or code
    late: int = 0  # calls that were rightly refused

    @property
    def is_good(self) -> bool:
        """Return whether nothing was lost, and the process ended in time."""
        return self.exit_code == 0 and not self.lost

    def __str__(self) -> str:
        """Return the result as one line."""
        end = "didn't end" if self.exit_code is None else f"exit {self.exit_code}"
        lost = "".join(f" {name}:{count}" for name, count in sorted(self.lost.items()))
        return (
            f"{self.calls:6,} calls, {self.lost.total()} lost{lost}, {self.late} late,"
            f" {end} in {self.seconds:.1f} s"
        )


class Callers:
    """A number of callers, each with a call under way until they are stopped."""

    def __init__(
        self,
        stub: Any,
        upstream: LyingUpstream,
        *,
        back_seconds: tuple[float, float] = BACK_SECONDS,
        number: int = CALLERS,
    ) -> None:
        """Call `stub` for runs of `upstream`; a failed caller pauses, then retries."""
        self._stub = stub
        self._ids = IDS[:number]
        self._back_seconds = back_seconds
        self._upstream = upstream
        self._is_over = False
        self._more: list[tuple[int, asyncio.Event]] = []
        self.outcomes: list[Outcome] = []

    async def __aenter__(self) -> Self:
        """Begin to call."""
        self._tasks = [asyncio.create_task(self._call_on(each)) for each in self._ids]
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Make no further calls; wait for those under way."""
        self._is_over = True
        await asyncio.gather(*self._tasks)

    async def ended(self, number: int) -> None:
        """Wait until this number of further calls has ended."""
        event = asyncio.Event()
        self._more.append((len(self.outcomes) + number, event))
        async with asyncio.timeout(DEADLINE_SECONDS):
            await event.wait()

    async def _call_on(self, run_id: str) -> None:
        while not self._is_over:
            before = self._upstream.asked[run_id]
            status = await self._status(run_id)
            is_accepted = self._upstream.asked[run_id] > before
            self.outcomes.append(Outcome(status, time.monotonic(), is_accepted))
            for number, event in self._more:
                if len(self.outcomes) >= number:
                    event.set()
            if status != "OK":
                # A client's own pause before it calls again.
                await asyncio.sleep(random.uniform(*self._back_seconds))

    async def _status(self, run_id: str) -> str:
        try:
            run = await get_run(self._stub, run_id, seconds=DEADLINE_SECONDS)
        except grpc.aio.AioRpcError as error:
            refusal = Refusal(error)
            return refusal.reason if refusal.details else refusal.code.name
        return "OK" if run.id == run_id else "another run"


def slow(request: Request) -> Answer:
    """Return a run after a while."""
    return [Wait(random.uniform(*ANSWER_SECONDS)), http(true_run(request.run_id))]


async def beside_another() -> Ending:
    """End one of two gateways; the client uses the service config."""
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(slow_upstream())
        settings = SETTINGS | {"GATEWAY_DRAIN_TIME": f"{BESIDE_DRAIN_SECONDS:g}s"}
        leaving, staying = [
            await stack.enter_async_context(serving(upstream.url, **settings))
            for _ in range(2)
        ]
        config = {"grpc.service_config": SERVICE_CONFIG.read_text()}
        stub = await stack.enter_async_context(client(leaving, staying, **config))
        async with Callers(stub, upstream) as callers:
            await callers.ended(2 * CALLERS)
            ending, _ = await terminated(leaving, drain_seconds=BESIDE_DRAIN_SECONDS)
            await callers.ended(2 * CALLERS)
    return counted(ending, callers.outcomes, terminated_at=None)


class Stubs:
    """A stub that calls over several connections in turn."""

    def __init__(self, stubs: Sequence[Any]) -> None:
        """Use these stubs."""
        self._stubs = cycle(stubs)

    @property
    def GetRun(self) -> Any:  # noqa: N802  # as gRPC names it
        """Return the method of the next stub."""
        return next(self._stubs).GetRun


async def alone(
    back_seconds: tuple[float, float] = BACK_SECONDS,
    *,
    number: int = CALLERS,
    connections: int = 1,
    **settings: str,
) -> Ending:
    """End the only gateway; its clients retry nothing and make further calls."""
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(slow_upstream())
        settings |= SETTINGS | {"GATEWAY_DRAIN_TIME": f"{DRAIN_SECONDS:g}s"}
        served = await stack.enter_async_context(serving(upstream.url, **settings))
        options = {"grpc.enable_retries": 0, "grpc.use_local_subchannel_pool": 1}
        stubs = [
            await stack.enter_async_context(client(served, **options))
            for _ in range(connections)
        ]
        # Workers know after their first calls how they share the quota.
        await asyncio.gather(*(get_run(each, IDS[-1]) for each in stubs))
        stub = Stubs(stubs)
        async with Callers(
            stub, upstream, back_seconds=back_seconds, number=number
        ) as callers:
            await callers.ended(2 * number)
            ending, at = await terminated(served)
    return counted(ending, callers.outcomes, terminated_at=at)


def slow_upstream() -> LyingUpstream:
    """Return a HealthOmics that answers slowly."""
    upstream = LyingUpstream()
    for run_id in IDS:
        upstream.lie(run_id, slow)
    return upstream


async def terminated(
    served: Served, *, drain_seconds: float = DRAIN_SECONDS
) -> tuple[Ending, float]:
    """Send SIGTERM and wait for the end; return it, and the time of the signal."""
    begun = time.monotonic()
    served.terminate()
    try:
        code = await served.ended(drain_seconds + STOP_SECONDS)
    except TimeoutError:
        return Ending(None, time.monotonic() - begun), begun
    return Ending(code, served.ended_at - begun), begun


def counted(
    ending: Ending, outcomes: Sequence[Outcome], *, terminated_at: float | None
) -> Ending:
    """Count the ends of the calls into `ending`.

    `terminated_at` is None if another gateway was there for every call.
    """
    ending.calls = len(outcomes)
    for each in outcomes:
        if each.status == "OK":
            continue
        if terminated_at is not None and is_late(each, terminated_at):
            ending.late += 1
        else:
            ending.lost[each.status] += 1
    return ending


def is_late(outcome: Outcome, terminated_at: float) -> bool:
    """Return whether a call was refused as it was late, or outlasted the drain."""
    open_seconds = DRAIN_SECONDS * (1.0 if outcome.is_accepted else OPEN_SHARE)
    earliest = terminated_at + open_seconds - CLOCKS_SECONDS
    return outcome.status in ELSEWHERE and outcome.ended >= earliest


async def repeated(times: int) -> dict[str, list[Ending]]:
    """End gateways this often; print each result."""
    endings: dict[str, list[Ending]] = {"two gateways": [], "one gateway": []}
    for number in range(1, times + 1):
        for (name, those), end in zip(
            endings.items(), (beside_another, alone), strict=True
        ):
            those.append(await end())
            say(f"{number:3} of {times}  {name:12} {those[-1]}")
    return endings


def table(endings: dict[str, list[Ending]]) -> Iterator[str]:
    """Return the summary."""
    yield f"{'':12}  times    calls  lost   late  longest  bad"
    for name, those in endings.items():
        yield (
            f"{name:12}{len(those):>7}{sum(each.calls for each in those):>9,}"
            f"{sum(each.lost.total() for each in those):>6}"
            f"{sum(each.late for each in those):>7,}"
            f"{max(each.seconds for each in those):>7.1f} s"
            f"{sum(not each.is_good for each in those):>5}"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code."""
    times = parser().parse_args(arguments).times
    say(
        f"{CALLERS} calls under way, drain time {BESIDE_DRAIN_SECONDS:g} s with two"
        f" gateways, {DRAIN_SECONDS:g} s with one"
    )
    try:
        endings = asyncio.run(repeated(times))
    except KeyboardInterrupt:
        return INTERRUPTED
    say(*table(endings))
    return 0 if all(each.is_good for those in endings.values() for each in those) else 1


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="sigterm",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "--times",
        type=_times,
        default=USUAL_TIMES,
        help="number of shutdowns (default %(default)d)",
    )
    return made


def _times(text: str) -> int:
    number = int(text)
    if not 1 <= number <= MOST_TIMES:
        raise argparse.ArgumentTypeError(f"write 1 to {MOST_TIMES}")
    return number


if __name__ == "__main__":
    sys.exit(main())
