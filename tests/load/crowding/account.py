"""The AWS account of the crowds: a quota, runs that change, and a clock."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from healthomics.v1.run_service_pb2_grpc import RunServiceStub
from healthomics_gateway.sandbox.quota import TokenBucket
from testkit.builders import http
from testkit.gateway_process import Served, serving
from testkit.lying_upstream import Answer, LyingUpstream, Request, Wait, said, true_run

DEFAULT_QUOTA = {"GATEWAY_QUOTA__TPS": "8", "GATEWAY_QUOTA__BURST": "2"}
ACCOUNT_TPS = 10.0


@dataclass
class Account:
    """Answers `tps` calls a second, as many at once, for any caller; 0 is no quota."""

    tps: float = ACCOUNT_TPS
    latency_seconds: float = 0.0
    statuses: dict[str, str] = field(default_factory=dict)  # by run's id
    asked: list[float] = field(default_factory=list)  # by the monotonic clock
    throttled: list[float] = field(default_factory=list)
    of_run: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        """Fill the bucket."""
        self.bucket = TokenBucket(
            rate_per_second=self.tps, depth=max(self.tps, 1), monotonic=time.monotonic
        )

    def answer(self, request: Request) -> Answer:
        """Answer GetRun; a run's name is the number of the call that read it."""
        now = time.monotonic()
        self.asked.append(now)
        times = self.of_run[request.run_id]
        times.append(now)
        if not self.bucket.take():
            self.throttled.append(now)
            return said(429, "ThrottlingException")
        status = self.statuses.get(request.run_id, "RUNNING")
        name = str(len(times) - 1)
        uuid = f"uuid-{request.run_id}"
        run = true_run(request.run_id, status=status, name=name, uuid=uuid)
        answer = http(run)
        return [Wait(self.latency_seconds), answer] if self.latency_seconds else answer


def most_a_second(times: Sequence[float]) -> int:
    """Return the highest number of calls in one second; `times` are in order."""
    most, first = 0, 0
    for last, at in enumerate(times):
        while times[first] <= at - 1:
            first += 1
        most = max(most, last - first + 1)
    return most


@asynccontextmanager
async def gateway(account: Account, **settings: str) -> AsyncIterator[Served]:
    """Serve a gateway in a separate process, with this account as its upstream."""
    async with (
        LyingUpstream(truth=account.answer) as upstream,
        serving(upstream.url, **(DEFAULT_QUOTA | settings)) as served,
    ):
        yield served


@asynccontextmanager
async def connected(served: Served, number: int) -> AsyncIterator[list[Any]]:
    """Open this number of connections without retries; return a stub for each."""
    own = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    async with AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(
                grpc.aio.insecure_channel(served.address, own)
            )
            for _ in range(number)
        ]
        await asyncio.gather(*(each.channel_ready() for each in channels))
        yield [RunServiceStub(each) for each in channels]


@dataclass
class Report:
    """The figures of an experiment, and its faults."""

    lines: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    slow: list[str] = field(default_factory=list)  # faults that a busy machine explains

    def add(self, line: str, *, must: bool = True, timed: bool = False) -> None:
        """Print a figure; it is a fault unless it is as it must be.

        A `timed` figure, of time or memory, is no fault in the short form.
        """
        self.lines.append(line)
        if not must:
            (self.slow if timed else self.faults).append(line)
