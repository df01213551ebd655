"""The callers: each polls one run once a second, closed loop, without retries."""

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import ErrorInfo
from grpc import aio
from grpc_status import rpc_status
from programs import BenchError

from healthomics.v1.run_pb2 import Run
from healthomics.v1.run_service_pb2 import GetRunRequest
from healthomics.v1.run_service_pb2_grpc import RunServiceStub

CALLERS = 200
RUNS = 50  # each polled by CALLERS / RUNS callers
PERIOD_SECONDS = 1.0
FIRST_RUN_ID = 1234567
OK = "OK"

_CHANNELS = 20
_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),  # else all channels share one connection
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
)
_CHECK_SECONDS = 10.0
_EXCEPTION = re.compile(r"\b\w+Exception\b")  # AWS's code in an error's words


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one call ended, as its caller saw it."""

    began: float  # seconds since the load began
    ended: float
    status: str  # OK, or the status and its reason where it has one
    age_seconds: float | None  # of the answer, where it tells when it was read


@dataclass(frozen=True, slots=True)
class Polling:
    """How the callers call."""

    deadline_seconds: float
    max_staleness_seconds: int = 0

    @property
    def said(self) -> str:
        """What the callers want, in words."""
        staleness = self.max_staleness_seconds
        freshness = f"at most {staleness} s old" if staleness else "strictly fresh"
        return f"answers {freshness}, deadlines of {self.deadline_seconds:g} s"

    def request(self, run_id: str) -> GetRunRequest:
        """Return the request for a run; peers don't know of staleness."""
        if not self.max_staleness_seconds:
            return GetRunRequest(id=run_id)
        staleness = Duration(seconds=self.max_staleness_seconds)
        return GetRunRequest(id=run_id, max_staleness=staleness)


def check(port: int, polling: Polling) -> None:
    """Make one call; raise `grpc.RpcError` or, for a wrong run, `BenchError`."""
    run_id = str(FIRST_RUN_ID + RUNS)  # one that nobody polls
    with grpc.insecure_channel(f"127.0.0.1:{port}", _OPTIONS) as channel:
        call = RunServiceStub(channel).GetRun
        _verify(call(polling.request(run_id), timeout=_CHECK_SECONDS), run_id)


async def poll(
    port: int,
    polling: Polling,
    *,
    began: float,
    seconds: float,
    each_second: Callable[[Sequence[Outcome]], None],
) -> list[Outcome]:
    """Let all callers poll for `seconds` from `began`, of the monotonic clock.

    Calls under way at the end are waited for. `each_second` is told of all outcomes so
    far; what it raises ends the load, and so does a wrong run, as `BenchError`.
    """
    outcomes: list[Outcome] = []
    async with AsyncExitStack() as stack:
        get_runs = []
        for _ in range(_CHANNELS):
            channel = aio.insecure_channel(f"127.0.0.1:{port}", _OPTIONS)
            await stack.enter_async_context(channel)
            get_runs.append(RunServiceStub(channel).GetRun)
        callers = [
            _Caller(
                get_runs[number % _CHANNELS],
                polling,
                run_id=str(FIRST_RUN_ID + number % RUNS),
                outcomes=outcomes,
            )
            for number in range(CALLERS)
        ]
        tasks = {
            asyncio.create_task(
                caller.poll(
                    began,
                    first=began + number * PERIOD_SECONDS / CALLERS,
                    until=began + seconds,
                )
            )
            for number, caller in enumerate(callers)
        }
        await _all(tasks, lambda: each_second(outcomes))
    return outcomes


async def _all(tasks: set[asyncio.Task[None]], each_second: Callable[[], None]) -> None:
    """Wait for all tasks; the first that fails ends the others, and is raised."""
    left = tasks
    try:
        while left:
            done, left = await asyncio.wait(left, timeout=1.0)
            for task in done:
                task.result()
            each_second()
    finally:
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


class _Caller:
    """One who polls one run."""

    def __init__(
        self,
        get_run: aio.UnaryUnaryMultiCallable[GetRunRequest, Run],
        polling: Polling,
        *,
        run_id: str,
        outcomes: list[Outcome],
    ) -> None:
        self._get_run = get_run
        self._polling = polling
        self._run_id = run_id
        self._request = polling.request(run_id)
        self._outcomes = outcomes

    async def poll(self, load_began: float, *, first: float, until: float) -> None:
        """Call from `first` on, until `until`."""
        due = first
        while due < until:
            await asyncio.sleep(due - time.monotonic())  # until its next poll
            began = time.monotonic()
            status, age = await self._call()
            ended = time.monotonic()
            self._outcomes.append(
                Outcome(began - load_began, ended - load_began, status, age)
            )
            due = max(began + PERIOD_SECONDS, ended)

    async def _call(self) -> tuple[str, float | None]:
        try:
            run = await self._get_run(
                self._request, timeout=self._polling.deadline_seconds
            )
        except aio.AioRpcError as error:
            return _told(error), None
        _verify(run, self._run_id)
        if not run.HasField("observe_time"):
            return OK, None
        observed = run.observe_time.seconds + run.observe_time.nanos / 1e9
        return OK, time.time() - observed


def _verify(run: Run, run_id: str) -> None:
    if run.id != run_id or not run.arn.endswith(f":run/{run_id}"):
        raise BenchError(f"the answer for run {run_id} is another:\n{run}")


def _told(error: aio.AioRpcError) -> str:
    """Return the status and its reason: ErrorInfo's, else AWS's code in the words."""
    reason = ""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # has what it reads
    for detail in status.details if status else ():
        info = ErrorInfo()
        if detail.Unpack(info):
            reason = info.reason
    if not reason and (found := _EXCEPTION.search(error.details() or "")):
        reason = found[0]
    return f"{error.code().name}:{reason}" if reason else error.code().name
