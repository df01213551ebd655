"""Crowds of calls: for one run, for more runs than the quota allows, beside others."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from itertools import count
from statistics import median
from typing import Any

import grpc

from healthomics.v1.run_service_pb2 import GetRunRequest
from load.crowding.account import (
    Account,
    Report,
    connected,
    gateway,
    most_a_second,
)
from testkit.builders import Refusal

ONE_ID = "2000022"
FIRST_ID = 5_000_000  # of many runs
CROWD, CONNECTIONS, CROWD_A_SECOND = 5000, 50, 1400.0
CROWD_SECONDS = 30.0  # their deadlines
SCAN_A_SECOND, SCAN_SECONDS = 100.0, 2.0  # distinct runs, and their deadlines
TPS, BURST = 8, 2
USEFUL_SHARE = 0.95
AT_ONCE_SECONDS = 0.1  # median of refusals
SERVED_SHARE = 0.99
OTHERS_TPS = 8.0
THROTTLED_SHARE = 0.2
SETTLED_SECONDS, BACK_SECONDS = 10.0, 60.0
SAMPLE_SECONDS = 8.0


async def one_run(share: float) -> Report:
    """Make 5,000 calls for one run: two calls to HealthOmics, or one every 200 ms."""
    report = Report()
    for latency in (5.0, 0.2):
        account = Account(tps=0, latency_seconds=latency)
        async with gateway(account) as served, connected(served, CONNECTIONS) as stubs:
            ends, came, stale = await _crowd(stubs, account, round(CROWD * share))
        asked, answered = len(account.asked), ends["OK"]
        lasted = max(came) - min(came)
        most = 2 if lasted < latency else 2 + lasted / latency
        text = f"{len(came):,} calls over {lasted:.1f} s, upstream {latency:g} s"
        report.add(f"{text}: {answered:,} OK", must=answered == len(came))
        report.add(
            f"{text}: {asked} upstream calls, at most {most:.0f}", must=asked <= most
        )
        report.add(f"{text}: {stale} answers older than their call", must=not stale)
    return report


async def _crowd(
    stubs: list[Any], account: Account, calls: int
) -> tuple[Counter[str], list[float], int]:
    """Return the ends of calls, their times, and the number of outdated answers."""
    ends: Counter[str] = Counter()
    came: list[float] = []
    stale = 0

    async def ask(stub: Any) -> None:
        nonlocal stale
        begun = time.monotonic()
        came.append(begun)
        try:
            run = await stub.GetRun(GetRunRequest(id=ONE_ID), timeout=CROWD_SECONDS)
        except grpc.aio.AioRpcError as error:
            ends[Refusal(error).code.name] += 1
        else:
            ends["OK"] += 1
            stale += account.of_run[ONE_ID][int(run.name)] < begun

    tasks = []
    begun = time.monotonic()
    for at in range(calls):
        await asyncio.sleep(max(0.0, begun + at / CROWD_A_SECOND - time.monotonic()))
        tasks.append(asyncio.create_task(ask(stubs[at % len(stubs)])))
    await asyncio.gather(*tasks)
    return ends, came, stale


async def many_runs(share: float) -> Report:
    """Ask for 100 distinct runs a second for a minute: exactly the quota is used."""
    seconds = 60 * share
    account = Account()
    answered: list[float] = []
    waits: list[float] = []
    odd: Counter[str] = Counter()

    async def ask(stub: Any, run_id: str) -> None:
        begun = time.monotonic()
        try:
            await stub.GetRun(GetRunRequest(id=run_id), timeout=SCAN_SECONDS)
            answered.append(time.monotonic())
        except grpc.aio.AioRpcError as error:
            refusal = Refusal(error)
            if "RetryInfo" not in refusal.details:
                odd[f"{refusal.code.name} without RetryInfo"] += 1
            waits.append(time.monotonic() - begun)

    async with gateway(account) as served, connected(served, 4) as stubs:
        begun = time.monotonic()
        tasks = []
        for at in range(round(SCAN_A_SECOND * seconds)):
            due = begun + at / SCAN_A_SECOND
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            call = ask(stubs[at % len(stubs)], str(FIRST_ID + at))
            tasks.append(asyncio.create_task(call))
        await asyncio.gather(*tasks)
    lasted = max(answered) - begun
    useful = len(answered) / (TPS * lasted + BURST)
    most, throttled = most_a_second(account.asked), len(account.throttled)
    report = Report()
    report.add(
        f"useful share of the rate {useful:.1%}",
        must=useful >= USEFUL_SHARE,
        timed=True,
    )
    report.add(
        f"at most {most} calls in a second", must=most <= TPS + BURST, timed=True
    )
    report.add(f"{throttled} throttles", must=not throttled, timed=True)
    at_once = median(waits)
    report.add(
        f"{len(waits):,} refusals, median after {at_once * 1000:.0f} ms",
        must=at_once <= AT_ONCE_SECONDS,
        timed=True,
    )
    report.add(f"refusals that lack something: {dict(odd)}", must=not odd)
    return report


async def scanner(share: float) -> Report:
    """Ask for 10,000 runs on one connection, while another asks for one each second."""
    seconds = 60 * share
    ends: Counter[str] = Counter()
    lasted: list[float] = []
    ids = count(FIRST_ID)

    async def scan(stub: Any, until: float) -> None:
        while time.monotonic() < until:
            try:
                await stub.GetRun(GetRunRequest(id=str(next(ids))), timeout=10)
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.1)

    async with gateway(Account()) as served, connected(served, 2) as (mine, other):
        until = time.monotonic() + seconds
        scans = [asyncio.create_task(scan(other, until)) for _ in range(100)]
        while (begun := time.monotonic()) < until:
            try:
                await mine.GetRun(GetRunRequest(id=ONE_ID), timeout=2.0)
                ends["OK"] += 1
            except grpc.aio.AioRpcError as error:
                ends[Refusal(error).reason] += 1
            lasted.append(time.monotonic() - begun)
            await asyncio.sleep(max(0.0, begun + 1 - time.monotonic()))
        await asyncio.gather(*scans)
    served_share = ends["OK"] / ends.total()
    report = Report()
    report.add(
        f"{served_share:.1%} of {ends.total()} polls answered beside"
        f" {next(ids) - FIRST_ID:,} runs, the slowest after {max(lasted):.2f} s",
        must=served_share >= SERVED_SHARE,
        timed=True,
    )
    return report


async def others(share: float) -> Report:
    """Let another program use 8 of 10 calls a second, and then stop."""
    busy_seconds, free_seconds = 60 * share, BACK_SECONDS + 10
    account = Account()
    ids = count(FIRST_ID)
    stopped = asyncio.Event()

    async def use(until: float) -> None:
        """Take tokens from the account as another program would."""
        while time.monotonic() < until:
            account.bucket.take()
            await asyncio.sleep(1 / OTHERS_TPS)

    async def ask(stub: Any) -> None:
        while not stopped.is_set():
            try:
                await stub.GetRun(GetRunRequest(id=str(next(ids))), timeout=10)
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.05)

    async with gateway(account) as served, connected(served, 4) as stubs:
        begun = time.monotonic()
        asking = [asyncio.create_task(ask(stubs[at % 4])) for at in range(40)]
        await use(begun + busy_seconds)
        freed = time.monotonic()
        await asyncio.sleep(free_seconds)
        stopped.set()
        await asyncio.gather(*asking)
    settled = begun + min(SETTLED_SECONDS, busy_seconds / 2)
    late = [at for at in account.asked if settled <= at < freed]
    throttled = [at for at in account.throttled if settled <= at < freed]
    share_throttled = len(throttled) / len(late)
    back = [
        at
        for at in account.asked
        if freed + BACK_SECONDS <= at < freed + BACK_SECONDS + 8
    ]
    rate = len(back) / 8
    report = Report()
    report.add(
        f"beside others {share_throttled:.1%} of {len(late)} calls are throttled",
        must=share_throttled <= THROTTLED_SHARE,
        timed=True,
    )
    report.add(
        f"{BACK_SECONDS:g} s after they stopped {rate:.1f} calls a second",
        must=rate >= USEFUL_SHARE * TPS,
        timed=True,
    )
    return report
