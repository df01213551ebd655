"""Poll runs with many callers: each polls one run once a second, without retries."""

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

from common.programs import BenchError
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
    ("grpc.use_local_subchannel_pool", 1),  # one connection for each channel
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
)
_CHECK_SECONDS = 10.0
_EXCEPTION = re.compile(r"\b\w+Exception\b")  # AWS's code in an error's message


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one call, as seen by its caller."""

    began: float  # seconds since the load began
    ended: float
    status: str  # OK, or the status with its reason if it has one
    age_seconds: float | None  # of the run, if it has an observe_time


@dataclass(frozen=True, slots=True)
class Polling:
    """The options of all calls."""

    deadline_seconds: float
    max_staleness_seconds: int = 0

    @property
    def description(self) -> str:
        """The options in words, for a title."""
        staleness = self.max_staleness_seconds
        freshness = f"at most {staleness} s old" if staleness else "strictly fresh"
        return f"answers {freshness}, deadlines of {self.deadline_seconds:g} s"

    def request(self, run_id: str) -> GetRunRequest:
        """Return the request for a run."""
        if not self.max_staleness_seconds:
            return GetRunRequest(id=run_id)
        staleness = Duration(seconds=self.max_staleness_seconds)
        return GetRunRequest(id=run_id, max_staleness=staleness)


def check(port: int, polling: Polling) -> None:
    """Make one call. Raises `grpc.RpcError`, or `BenchError` for a wrong run."""
    run_id = str(FIRST_RUN_ID + RUNS)  # not one of those that are polled
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
    """Poll with all callers for `seconds` and return the outcomes of all calls.

    `began` is the time of the monotonic clock at which the load begins. Calls under way
    at the end are awaited. `each_second` is called about once a second with all
    outcomes so far, and may raise to end the load. Raises `BenchError` for a wrong run.
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
        await _wait(tasks, lambda: each_second(outcomes))
    return outcomes


async def _wait(
    tasks: set[asyncio.Task[None]], each_second: Callable[[], None]
) -> None:
    """Wait for all tasks. If one raises, cancel the others and raise its exception."""
    pending = tasks
    try:
        while pending:
            done, pending = await asyncio.wait(pending, timeout=1.0)
            for task in done:
                task.result()
            each_second()
    finally:
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)


class _Caller:
    """A caller that polls one run."""

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
        """Call once a second from `first` until `until`; one call at a time."""
        due = first
        while due < until:
            await asyncio.sleep(due - time.monotonic())
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
            return _status(error), None
        _verify(run, self._run_id)
        if not run.HasField("observe_time"):
            return OK, None
        observed = run.observe_time.seconds + run.observe_time.nanos / 1e9
        return OK, time.time() - observed


def _verify(run: Run, run_id: str) -> None:
    if run.id != run_id or not run.arn.endswith(f":run/{run_id}"):
        raise BenchError(f"the response for run {run_id} is another run:\n{run}")


def _status(error: aio.AioRpcError) -> str:
    """Return the status and its reason, from `ErrorInfo` or from AWS's code."""
    reason = ""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # AioRpcError works
    for detail in status.details if status else ():
        info = ErrorInfo()
        if detail.Unpack(info):
            reason = info.reason
    if not reason and (found := _EXCEPTION.search(error.details() or "")):
        reason = found[0]
    return f"{error.code().name}:{reason}" if reason else error.code().name
