"""Callers of which each may see the runs of one group; they check what they get."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration

from healthomics.v1.run_pb2 import Run
from healthomics.v1.run_service_pb2 import GetRunRequest, WatchRunRequest
from load.replicating.account import GROUPS, group_of, uuid_of
from load.replicating.runs import watched_ids
from load.rolling import retry_delay
from testkit.builders import Refusal
from testkit.callers import bearing, rule, token

RUNS = 20  # of the account
IDENTITIES = dict(zip(("alice", "bob"), GROUPS, strict=True))  # with their groups
RULES = "".join(rule(name, run_groups=[group]) for name, group in IDENTITIES.items())
MAX_STALENESS = timedelta(seconds=5)
SLACK_SECONDS = 1.0
DEADLINE_SECONDS = 30.0
EVERY_SECONDS = 0.2  # between two calls of a caller about a run
HIDDEN = "CALLER_NOT_AUTHORIZED"
TOKEN_SECONDS = 3600.0


@dataclass
class Got:
    """What the callers got; `leaks` and `errors` must stay empty."""

    answers: Counter[str] = field(default_factory=Counter)
    leaks: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    slowest_seconds: float = 0.0


class Callers:
    """Both callers, at all gateways."""

    def __init__(self, stubs: Sequence[Any], got: Got) -> None:
        """Count into `got`."""
        self._stubs = stubs
        self._got = got
        self._staleness = Duration()
        self._staleness.FromTimedelta(MAX_STALENESS)

    async def run(self) -> None:
        """Call and watch until cancelled."""
        async with asyncio.TaskGroup() as group:
            for name, mine in IDENTITIES.items():
                exp = time.time() + TOKEN_SECONDS
                metadata = bearing(token(name, exp=exp))
                for at, run_id in enumerate(watched_ids(RUNS)):
                    stub = self._stubs[at % len(self._stubs)]
                    may_see = group_of(run_id) == mine
                    group.create_task(self._call(run_id, metadata, may_see=may_see))
                    group.create_task(
                        self._watch(stub, run_id, metadata, may_see=may_see)
                    )

    def check(self, run_id: str, run: Run, *, oldest: float, may_see: bool) -> None:
        """Count what a caller must not get: another's run, or one that is too old."""
        if not may_see:
            self._got.leaks["a hidden run"] += 1
        if (run.id, run.uuid, run.run_group_id) != (
            run_id,
            uuid_of(run_id),
            group_of(run_id),
        ):
            self._got.leaks["another run's content"] += 1
        if float(run.name) < oldest:
            self._got.leaks["an answer that is too old"] += 1

    async def _call(self, run_id: str, metadata: Any, *, may_see: bool) -> None:
        """Ask for one run at all gateways in turn, sometimes for a fresh answer."""
        number = int(run_id)
        while True:
            number += 1
            is_fresh = number % 10 == 0
            request = GetRunRequest(id=run_id)
            if not is_fresh:
                request.max_staleness.CopyFrom(self._staleness)
            stub = self._stubs[number % len(self._stubs)]
            begun = time.monotonic()
            try:
                run = await stub.GetRun(
                    request, timeout=DEADLINE_SECONDS, metadata=metadata
                )
            except grpc.aio.AioRpcError as error:
                self._note_error(Refusal(error), may_see=may_see)
            else:
                oldest = begun - (
                    0 if is_fresh else MAX_STALENESS.total_seconds() + SLACK_SECONDS
                )
                self.check(run_id, run, oldest=oldest, may_see=may_see)
                self._got.answers["fresh" if is_fresh else "remembered"] += 1
            slowest = max(self._got.slowest_seconds, time.monotonic() - begun)
            self._got.slowest_seconds = slowest
            await asyncio.sleep(EVERY_SECONDS)  # the rate of the calls

    async def _watch(
        self, stub: Any, run_id: str, metadata: Any, *, may_see: bool
    ) -> None:
        """Watch one run, again and again until it has ended."""
        while True:
            request = WatchRunRequest(id=run_id)
            pause = 1.0
            try:
                async for response in stub.WatchRun(request, metadata=metadata):
                    self.check(run_id, response.run, oldest=0.0, may_see=may_see)
                    self._got.answers["watched"] += 1
            except grpc.aio.AioRpcError as error:
                refusal = Refusal(error)
                self._note_error(refusal, may_see=may_see)
                pause = retry_delay(refusal) or pause
            await asyncio.sleep(pause)  # as the error asks for

    def _note_error(self, refusal: Refusal, *, may_see: bool) -> None:
        reason = refusal.reason if refusal.details else refusal.code.name
        if reason == HIDDEN and not may_see:
            self._got.answers["hidden"] += 1
        else:
            self._got.errors[reason] += 1
