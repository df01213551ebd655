"""A gateway between a lying upstream and clients, with checks for every fault case."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, cast

import grpc
from grpc import StatusCode
from structlog.testing import capture_logs

from healthomics.v1.run_pb2 import Run
from healthomics_gateway.app.gateway import Gateway
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.sandbox import ACCESS_KEY_ID, SECRET_ACCESS_KEY
from healthomics_gateway.telemetry.log_lines import json_line
from testkit.builders import (
    Refusal,
    assert_well_made,
    aws_at,
    calling,
    gateway,
    get_run,
    refused,
)
from testkit.fault_table import Tally
from testkit.lying_upstream import ARN, CANARY, TRUE_ID, LyingUpstream
from testkit.measuring_loop import MeasuringLoop

GRACE_SECONDS = 1.0  # beyond a deadline: this machine may be busy
BACK_SECONDS = 5.0  # until all resources are as before
MAX_CALLBACK_SECONDS = 0.05  # of CPU time
WITNESS_PAUSE_SECONDS = 0.02
CANARIES = (CANARY, ARN, ACCESS_KEY_ID, SECRET_ACCESS_KEY, "123456789012", "arn:")
SECRETS = (SECRET_ACCESS_KEY, "session-token")  # these must not even be in the log
LATE = {Reason.CALLER_DEADLINE, Reason.SERVER_DEADLINE, Reason.DEADLINE_TOO_SHORT}


class Rig:
    """Makes calls, and checks what must be true after every case."""

    def __init__(self, tally: Tally, upstream: LyingUpstream, served: Gateway) -> None:
        """Count outcomes in `tally`."""
        self.tally = tally
        self.upstream = upstream
        self.served = served
        self.stub: Any = None
        self.log: list[dict[str, Any]] = []

    @classmethod
    @asynccontextmanager
    async def over(
        cls,
        tally: Tally,
        *,
        upstream: LyingUpstream | None = None,
        aws: Callable[[str], Any] = aws_at,
        is_truth_served: bool = True,
        **environ: str,
    ) -> AsyncIterator[Rig]:
        """Serve a gateway over a lying upstream, and check everything at the end.

        If no correct answer is possible (nothing listens, nothing is trusted), there is
        neither a witness nor a good call afterwards. `aws` returns the gateway's AWS
        for the upstream's URL, `environ` are settings.
        """
        async with AsyncExitStack() as stack:
            log = stack.enter_context(capture_logs())
            upstream = upstream or await stack.enter_async_context(LyingUpstream())
            served = await stack.enter_async_context(
                gateway(aws(upstream.url), **environ)
            )
            rig = cls(tally, upstream, served)
            rig.log = log
            rig.stub = await stack.enter_async_context(calling(served))
            elsewhere = await stack.enter_async_context(
                calling(served, **{"grpc.use_local_subchannel_pool": 1})
            )
            for stub in (rig.stub, elsewhere):  # each has a connection from now on
                await (get_run(stub, TRUE_ID) if is_truth_served else _connect(stub))
            async with rig._checked(elsewhere if is_truth_served else None):  # its own
                yield rig

    async def run(self, run_id: str, *, seconds: float = 10.0, **fields: Any) -> Run:
        """Make a call that must succeed."""
        self.tally.calls += 1
        run = await get_run(self.stub, run_id, seconds=seconds, **fields)
        self.tally.outcomes["OK"] += 1
        return run

    async def refusal(
        self,
        run_id: str,
        reason: Reason,
        *,
        seconds: float = 10.0,
        **fields: Any,
    ) -> Refusal:
        """Make a call that must fail for `reason`, well made and in time."""
        call = get_run(self.stub, run_id, seconds=seconds, **fields)
        return await self.refused(call, reason, seconds=seconds)

    async def refused(
        self, call: Awaitable[Any], reason: Reason, *, seconds: float = 10.0
    ) -> Refusal:
        """Await any call that must fail for `reason`; `seconds` is its deadline."""
        begun = time.monotonic()
        self.tally.calls += 1
        try:
            answer = await call
        except grpc.aio.AioRpcError as error:
            refusal = Refusal(error)
        else:
            self.tally.wrong += 1
            raise AssertionError(f"it succeeded: {answer}")
        lasted = time.monotonic() - begun
        name = refusal.reason if refusal.details else refusal.code.name
        self.tally.outcomes[name] += 1
        is_late = refusal.code is StatusCode.DEADLINE_EXCEEDED and reason not in LATE
        self.tally.silent += is_late or lasted > seconds + GRACE_SECONDS
        is_right = reason.value.code == refusal.code.value[0] and name == reason.name
        self.tally.wrong += not is_right and not is_late
        text = f"{refusal.message} {refusal.details} {refusal.trailers}"
        leaked = [canary for canary in CANARIES if canary in text]
        self.tally.leaked += len(leaked)
        assert reason.name == name, refusal.message
        assert reason.value.code == refusal.code.value[0]
        assert [] == leaked
        assert lasted <= seconds + GRACE_SECONDS
        assert_well_made(refusal)
        return refusal

    @asynccontextmanager
    async def _checked(self, witness: Any) -> AsyncIterator[None]:
        """Check what must be true during and after every case."""
        loop = cast("MeasuringLoop", asyncio.get_running_loop())
        await self.upstream.hang_up_idle()
        before = self._resources()
        gc.freeze()  # the heap of the tests isn't measured
        await asyncio.sleep(0)  # nor is this
        loop.forget()
        witnessed: list[str] = []
        ended = asyncio.Event()
        watching = asyncio.create_task(_watch(witness, witnessed, ended))
        try:
            yield
        finally:
            ended.set()
            await asyncio.gather(watching, return_exceptions=True)
        longest = loop.longest_seconds, loop.longest
        gc.unfreeze()
        if witness:
            assert {"OK"} == set(witnessed)  # callers on other connections
            assert TRUE_ID == (await get_run(self.stub, TRUE_ID)).id
        await self._back_to(before)
        assert longest[0] <= MAX_CALLBACK_SECONDS, longest[1]
        lines = [json_line(dict(event)) for event in self.log]
        assert [] == [line for line in lines if line.splitlines() != [line]]
        assert [] == [each for each in SECRETS if each in "".join(lines)]
        for line in lines:
            json.loads(line)

    def _resources(self) -> dict[str, int]:
        return {
            "tasks": len(asyncio.all_tasks()),
            "files": len(list(Path("/proc/self/fd").iterdir())),
            "upstream requests": self.upstream.busy,
            "calls inside": self.served.in_flight,
        }

    async def _back_to(self, before: dict[str, int]) -> None:
        """Wait until no more resources are in use than before."""
        end = time.monotonic() + BACK_SECONDS
        while True:
            await self.upstream.hang_up_idle()
            now = self._resources()
            more = {name: now[name] for name in now if now[name] > before[name]}
            if not more:
                return
            assert time.monotonic() < end, f"{more}, before: {before}"
            await asyncio.sleep(0.001)  # there is no event when all is closed


async def _connect(stub: Any) -> None:
    assert Reason.INVALID_REQUEST.name == (await refused(get_run(stub, "no id"))).reason


async def _watch(witness: Any, witnessed: list[str], ended: asyncio.Event) -> None:
    """Make calls on another connection until the case ends, at least one."""
    while witness:
        try:
            run = await get_run(witness, TRUE_ID)
            witnessed.append("OK" if run.id == TRUE_ID else f"run {run.id}")
        except grpc.aio.AioRpcError as error:
            witnessed.append(f"{error.code()}: {error.details()}")
        if ended.is_set():
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), WITNESS_PAUSE_SECONDS)
