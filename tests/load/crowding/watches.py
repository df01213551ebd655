"""Crowds of watches: thousands of one run, and hundreds of runs that change."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import grpc

from healthomics.v1.run_pb2 import RunStatus
from healthomics.v1.run_service_pb2 import WatchRunRequest
from load.crowding.account import (
    Account,
    Report,
    connected,
    gateway,
    most_a_second,
)
from load.soaking.process import memory_and_threads
from testkit.builders import Refusal

ONE_ID = "2000038"
FIRST_ID = 6_000_000
WATCHES, PER_CONNECTION = 5000, 400
MOST_KIB, MOST_SECONDS = 30.0, 2.0
UNHURRIED = 100  # watches opened at once
RUNS, CHANGES_A_SECOND = 500, 1.0
TPS, QUOTA_SHARE = 8.0, 0.5
COMPLETED = RunStatus.RUN_STATUS_COMPLETED
PATIENCE_SECONDS = 400.0

Draw = Callable[[list[tuple[float, float]], list[float], list[tuple[float, int]]], None]


async def one_run(share: float) -> Report:
    """Open 5,000 watches of one run: their memory, and the delay of a change."""
    number = round(WATCHES * share)
    account = Account(tps=0)
    ended: list[float] = []
    seen = 0

    async def follow(stub: Any) -> None:
        nonlocal seen
        async for response in stub.WatchRun(WatchRunRequest(id=ONE_ID)):
            seen += 1
            if response.run.status == COMPLETED:
                ended.append(time.monotonic())

    connections = -(-number // PER_CONNECTION)
    settings = {"GATEWAY_WATCH__INTERVAL": "1s"}  # all see the change within a second
    async with (
        gateway(account, **settings) as served,
        connected(served, connections) as stubs,
    ):
        for stub in stubs:  # the connections' memory doesn't count
            call = stub.WatchRun(WatchRunRequest(id=ONE_ID))
            await call.read()
            call.cancel()
        await asyncio.sleep(1.0)  # for all watches to end
        before, _ = memory_and_threads(served.process.pid)
        tasks = []
        for at in range(number):
            tasks.append(asyncio.create_task(follow(stubs[at % connections])))
            if at % UNHURRIED == 0:
                await asyncio.sleep(0.05)  # a crowd arrives over several seconds
        await _until(lambda: seen >= number)
        await asyncio.sleep(2.0)  # a poll or two
        after, _ = memory_and_threads(served.process.pid)
        asked = len(account.asked)
        account.statuses[ONE_ID] = "COMPLETED"
        await _until(lambda: len(account.asked) > asked)
        changed = account.asked[asked]  # the poll that reads the change
        await asyncio.gather(*tasks)
    kib = (after - before) * 1024 / number
    spread = max(ended) - changed
    report = Report()
    report.add(
        f"{number:,} watches of one run: {kib:.1f} KiB each", must=kib <= MOST_KIB
    )
    report.add(
        f"its change reaches the first after {min(ended) - changed:.2f} s and all after"
        f" {spread:.2f} s",
        must=spread <= MOST_SECONDS,
        timed=True,
    )
    return report


async def many_runs(share: float, draw: Draw) -> Report:
    """Watch 500 runs with default settings, with one change a second in all."""
    number = round(RUNS * share)
    account = Account()
    ids = [str(FIRST_ID + at) for at in range(number)]
    changed: dict[str, float] = {}
    delays: list[tuple[float, float]] = []  # the time of the change, and the delay
    last: dict[str, int] = {}
    renewed = 0

    async def follow(stub: Any, run_id: str) -> None:
        nonlocal renewed
        uuid = ""
        while last.get(run_id) != COMPLETED:
            try:
                async for response in stub.WatchRun(
                    WatchRunRequest(id=run_id, uuid=uuid)
                ):
                    uuid = response.run.uuid
                    last[run_id] = response.run.status
            except grpc.aio.AioRpcError as error:
                assert Refusal(error).reason == "WATCH_RENEW"  # noqa: PT017  # the watch resumes
                renewed += 1
        now = time.monotonic()
        delays.append((changed[run_id] - begun, now - changed[run_id]))

    async with gateway(account) as served, connected(served, 2) as stubs:
        begun = time.monotonic()
        tasks = [
            asyncio.create_task(follow(stubs[at % 2], run_id))
            for at, run_id in enumerate(ids)
        ]
        await _until(lambda: len(last) == number)
        opened = time.monotonic() - begun
        order = random.Random(1).sample(ids, number)
        first = time.monotonic()
        for at, run_id in enumerate(order):
            await asyncio.sleep(
                max(0.0, first + at / CHANGES_A_SECOND - time.monotonic())
            )
            changed[run_id] = time.monotonic()
            account.statuses[run_id] = "COMPLETED"
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.gather(*tasks)
        lasted = time.monotonic() - begun
    missed = number - sum(status == COMPLETED for status in last.values())
    rate = len(account.asked) / lasted
    most = most_a_second(account.asked)
    waited = sorted(delay for _, delay in delays)
    draw(delays, [at - begun for at in account.asked], _open_runs(delays, number))
    report = Report()
    report.add(f"{number} runs had their first state within {opened:.0f} s")
    report.add(f"{missed} of {number} ends missed", must=not missed)
    report.add(f"{renewed} streams were renewed")
    report.add(
        f"{rate:.2f} polls a second of {TPS * QUOTA_SHARE:g}, {most} at most in one",
        must=rate <= TPS * QUOTA_SHARE * 1.01 and not account.throttled,
        timed=True,
    )
    p99 = waited[int(0.99 * len(waited))]
    report.add(
        f"delay: median {median(waited):.1f} s, p99 {p99:.1f} s,"
        f" longest {waited[-1]:.1f} s"
    )
    return report


def _open_runs(
    delays: list[tuple[float, float]], number: int
) -> list[tuple[float, int]]:
    ends = sorted(at + delay for at, delay in delays)
    return [(0.0, number), *((at, number - done - 1) for done, at in enumerate(ends))]


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110  # there is no event for a count
            await asyncio.sleep(0.05)
