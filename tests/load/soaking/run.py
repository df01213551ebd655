"""Runs one soak: the upstream, the gateway, the load, the end."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from contextlib import AsyncExitStack, nullcontext, suppress
from random import Random

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from load.soaking.attack import attack
from load.soaking.calls import make, plan
from load.soaking.judge import Judge
from load.soaking.ledger import Ledger
from load.soaking.process import Served, credential, serving, sharing
from load.soaking.record import Record
from load.soaking.samples import Finding, verdict
from load.soaking.upstream import SoakUpstream
from load.soaking.watch import Watch

CHANNELS = 6
MOST_OPEN = 400  # calls at a time
MOST_BEHIND_SECONDS = 1.0  # of the plan; calls that are later than this are skipped
HEALTH_EVERY = 40  # one of this number of calls is a health check
HEALTH_SECONDS = 5.0
LAST_CALLS_SECONDS = 20.0  # for the calls under way when the load ends
JUDGED_SECONDS = 0.2  # after a call: then it is known whether this program was delayed
FIRST_TOKENS_SECONDS = 3.0  # a shared quota that is new has no tokens at first
MISSING_SECONDS = 15.0  # a call that hasn't ended by then is missing


class Soak:
    """Runs the load and collects its results."""

    def __init__(
        self, *, seed: int, seconds: float, rate: float, is_shared: bool = False
    ) -> None:
        """Make `rate` calls a second for this number of seconds.

        If `is_shared`, the gateway has two workers, which share a store.
        """
        self._is_shared = is_shared
        self._seed = seed
        self._seconds = seconds
        self._rate = rate
        self._stop = asyncio.Event()
        self._open: set[asyncio.Task[None]] = set()
        self._credential = credential()
        self._ends: list[Finding] = []
        self.ledger = Ledger()
        self._judge = Judge(
            self.ledger,
            ahead_seconds=time.time() - time.monotonic(),
            is_shared=is_shared,
        )
        self.record = Record()
        self.events: Counter[str] = Counter()  # of the gateway's log
        self.is_interrupted = False

    def interrupt(self) -> None:
        """End the load now; what was measured until then is judged."""
        self.is_interrupted = True
        self._stop.set()

    def findings(self) -> list[Finding]:
        """Return the findings."""
        compared = verdict(self.record.samples)
        return [*self.record.findings(), *self._ends, *compared]

    async def run(self) -> None:
        """Run the soak, from the start of the gateway to its end."""
        async with (
            SoakUpstream(self.ledger, seed=self._seed) as upstream,
            sharing() if self._is_shared else nullcontext({}) as shared,
            serving(upstream.url, **shared) as served,
        ):
            watch = Watch(self.ledger, self.record, upstream, served)
            beside = [
                asyncio.create_task(each)
                for each in (
                    watch.run(self._seconds),
                    attack(served.address),
                    served.stall(),
                )
            ]
            try:
                if self._is_shared:
                    # Else the load would wait.
                    await asyncio.sleep(FIRST_TOKENS_SECONDS)
                await self._load(served)
            finally:
                for task in beside:
                    task.cancel()
                for task in beside:
                    with suppress(asyncio.CancelledError):
                        await task
            self._ends.append(await watch.rest())
            if fault := await served.stop():
                self._ends.append(Finding(fault, fails=True))
        self.events = served.log.events
        self.record.disagree("the log", *served.log.faults)
        self.record.disagree("a stray request", *upstream.strays)

    async def _load(self, served: Served) -> None:
        """Make the calls over separate channels, and wait for the last ends."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with AsyncExitStack() as stack:
            channels = [
                await stack.enter_async_context(
                    grpc.aio.insecure_channel(served.address, options=options)
                )
                for _ in range(CHANNELS)
            ]
            await self._make_calls(served, channels)
            if self._open:
                await asyncio.wait(self._open, timeout=LAST_CALLS_SECONDS)
            for task in self._open:
                task.cancel()

    async def _make_calls(
        self, served: Served, channels: list[grpc.aio.Channel]
    ) -> None:
        random = Random(f"{self._seed} arrivals")  # reproduced by its seed
        due = time.monotonic()
        end = due + self._seconds
        for number in itertools.count():
            earliest = time.monotonic() - MOST_BEHIND_SECONDS
            due = max(due + random.expovariate(self._rate), earliest)
            if due > end or await self._is_stopped_by(due) or served.has_ended:
                return
            self._begin(random.choice(channels), number)

    async def _is_stopped_by(self, due: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout_at(due):
                await self._stop.wait()
        return self._stop.is_set()

    def _begin(self, channel: grpc.aio.Channel, number: int) -> None:
        if len(self._open) >= MOST_OPEN:
            self.record.unmade += 1
            return
        self.record.calls += 1
        is_check = number % HEALTH_EVERY == 0
        work = self._check(channel) if is_check else self._call(channel, number)
        task = asyncio.create_task(work)
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _call(self, channel: grpc.aio.Channel, number: int) -> None:
        planned = plan(self._seed, number)
        name = f"call {number} ({planned.kind}, run {planned.run_id or '-'})"
        try:
            async with asyncio.timeout(MISSING_SECONDS):
                asked, end = await make(channel, planned, self._credential)
        except TimeoutError:
            self.record.disagree(name, "it never ended")
            return
        self.record.end(planned.kind, asked, end)
        await asyncio.sleep(JUDGED_SECONDS)
        self.record.disagree(name, *self._judge.faults(asked, end))

    async def _check(self, channel: grpc.aio.Channel) -> None:
        """Ask for the health of the process: it serves until it drains."""
        check = HealthStub(channel).Check
        try:
            answer = await check(HealthCheckRequest(), timeout=HEALTH_SECONDS)
        except grpc.aio.AioRpcError as error:
            self.record.disagree("a health check", error.code().name)
            return
        word = HealthCheckResponse.ServingStatus.Name(answer.status)
        self.record.ends[f"health check: {word}"] += 1
        if answer.status != HealthCheckResponse.SERVING:
            self.record.disagree("a health check", word)
