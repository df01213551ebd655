"""The callers of the load, as a program: fresh calls, remembered answers, watches.

Each caller has a connection, and goes to the next address when it fails; a caller of
GetRun comes back after some answers. At the end of its input, the program prints what
the callers saw.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from itertools import cycle
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration

from healthomics.v1.run_pb2 import RunStatus
from healthomics.v1.run_service_pb2 import GetRunRequest, WatchRunRequest
from healthomics.v1.run_service_pb2_grpc import RunServiceStub
from load.replicating.account import uuid_of
from load.replicating.runs import (
    FRESH,
    FRESH_FIRST,
    REMEMBERED,
    REMEMBERED_FIRST,
    WATCHED,
    watched_ids,
)
from load.replicating.seen import Failure, Seen
from load.rolling import retry_delay
from testkit.builders import Refusal

# Long enough for any queue of this load, so a correct gateway refuses nothing.
DEADLINE_SECONDS = 90.0
AGAIN_SECONDS = 0.2  # after a failure
BACK_SHARE = 0.25  # of the answers: after these a caller goes back to its channel
EVERY_SECONDS = 1.0  # between two calls for a remembered answer
MAX_STALENESS = timedelta(seconds=5)
SLACK_SECONDS = 1.0  # of ages: the clocks of wall and monotonic time, and the way
OPENED_A_SECOND = 200  # watches
OPTIONS = [
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    # A dead worker is replaced within seconds.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
]
COMPLETED = RunStatus.RUN_STATUS_COMPLETED


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many callers of each kind there are."""

    fresh: int  # callers, each with a run of its own
    remembered: int  # callers
    remembered_runs: int
    watches: int
    watched_runs: int


class _Place:
    """The channel that a caller uses, of a number of channels."""

    def __init__(self, home: int, channels: int) -> None:
        self._home = home
        self._channels = channels
        self.number = home % channels

    def leave(self) -> None:
        """Take the next channel, which is to another address if there is one."""
        self.number = (self.number + 1) % self._channels

    def come_back(self) -> None:
        """Take the first channel again, now and then."""
        if random.random() < BACK_SHARE:
            self.number = self._home % self._channels


class Callers:
    """All callers, over `channels`."""

    def __init__(self, channels: Sequence[grpc.aio.Channel], sizes: Sizes) -> None:
        """Begin without calls."""
        self._stubs: list[Any] = [RunServiceStub(each) for each in channels]
        self._sizes = sizes
        self.seen = Seen(watches=sizes.watches)

    async def run(self) -> None:
        """Call and watch until cancelled."""
        sizes = self._sizes
        async with asyncio.TaskGroup() as group:
            for at in range(sizes.fresh):
                group.create_task(self._call_fresh(at, str(FRESH_FIRST + at)))
            for at in range(sizes.remembered):
                run_id = str(REMEMBERED_FIRST + at % sizes.remembered_runs)
                group.create_task(self._call_remembered(at, run_id))
            ids = cycle(watched_ids(sizes.watched_runs))
            for at in range(sizes.watches):
                # The watches of one run are spread over all addresses.
                first = sum(divmod(at, sizes.watched_runs))
                group.create_task(self._watch(at, first, next(ids)))
                if at % (OPENED_A_SECOND // 20) == 0:
                    await asyncio.sleep(1 / 20)  # the rate of the new watches

    async def _call_fresh(self, home: int, run_id: str) -> None:
        place = _Place(home, len(self._stubs))
        while True:
            begun = time.monotonic()
            at = await self._call(FRESH, place, GetRunRequest(id=run_id))
            if at is not None:
                self.seen.waits.append(time.monotonic() - begun)
                if at < begun:
                    self._wrong(FRESH, run_id, f"read {begun - at:.3f} s too early")

    async def _call_remembered(self, home: int, run_id: str) -> None:
        place = _Place(home, len(self._stubs))
        staleness = Duration()
        staleness.FromTimedelta(MAX_STALENESS)
        request = GetRunRequest(id=run_id, max_staleness=staleness)
        allowed = MAX_STALENESS.total_seconds() + SLACK_SECONDS
        while True:
            begun = time.monotonic()
            at = await self._call(REMEMBERED, place, request)
            if at is not None and begun - at > allowed:
                self._wrong(REMEMBERED, run_id, f"{begun - at:.3f} s old")
            # The rate of the calls.
            await asyncio.sleep(max(0.0, begun + EVERY_SECONDS - time.monotonic()))

    async def _call(
        self, kind: str, place: _Place, request: GetRunRequest
    ) -> float | None:
        """Return when the account was asked, or `None` after a failure."""
        get_run = self._stubs[place.number].GetRun
        try:
            run = await get_run(request, timeout=DEADLINE_SECONDS)
        except grpc.aio.AioRpcError as error:
            self._fail(kind, place.number, Refusal(error))
            place.leave()
            await asyncio.sleep(AGAIN_SECONDS)  # no loop of failures
            return None
        place.come_back()
        self.seen.answers[kind] += 1
        if (run.id, run.uuid) != (request.id, uuid_of(request.id)):
            self._wrong(kind, request.id, f"the run {run.id} {run.uuid}")
        return float(run.name)

    async def _watch(self, number: int, home: int, run_id: str) -> None:
        """Watch a run to its end, and again as docs/guide/clients.md says."""
        place = _Place(home, len(self._stubs))
        request, status = WatchRunRequest(id=run_id), None
        while status != COMPLETED:
            try:
                async for response in self._stubs[place.number].WatchRun(request):
                    request.uuid, status = response.run.uuid, response.run.status
                    self.seen.answers[WATCHED] += 1
                    if response.run.id != run_id:
                        self._wrong(WATCHED, run_id, f"the run {response.run.id}")
            except grpc.aio.AioRpcError as error:
                refusal = Refusal(error)
                self._fail(WATCHED, place.number, refusal)
                seconds = retry_delay(refusal)
                if seconds is None:
                    return
                place.leave()
                await asyncio.sleep(seconds)  # as the error asks for
            else:
                break
        if status == COMPLETED:
            self.seen.ends[f"{number} {run_id}"] = time.monotonic()

    def _fail(self, kind: str, channel: int, refusal: Refusal) -> None:
        reason = refusal.reason if refusal.details else refusal.code.name
        self.seen.fail(Failure(time.monotonic(), kind, channel, reason))

    def _wrong(self, kind: str, run_id: str, what: str) -> None:
        self.seen.wrong.append(f"the answer about {kind} run {run_id} is {what}")


async def _run(addresses: Sequence[str], connections: int, sizes: Sizes) -> Seen:
    """Run the load until the input ends."""
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(
                grpc.aio.insecure_channel(addresses[at % len(addresses)], OPTIONS)
            )
            for at in range(connections)
        ]
        callers = Callers(channels, sizes)
        running = asyncio.create_task(callers.run())
        reading = loop.run_in_executor(None, sys.stdin.read)
        await asyncio.wait((running, reading), return_when=asyncio.FIRST_COMPLETED)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        if not running.cancelled():
            running.result()  # raises what ended it
        return callers.seen


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code."""
    parser = argparse.ArgumentParser(prog="callers", description=__doc__)
    parser.add_argument("addresses", type=lambda text: text.split(","))
    parser.add_argument("connections", type=int)
    for name in Sizes.__dataclass_fields__:
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, required=True)
    options = vars(parser.parse_args(arguments))
    addresses, connections = options.pop("addresses"), options.pop("connections")
    seen = asyncio.run(_run(addresses, connections, Sizes(**options)))
    print(seen.dump(), flush=True)  # noqa: T201  # read by the program that started this one
    return 0


if __name__ == "__main__":
    sys.exit(main())
