"""GetRun and WatchRun calls of the command line."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol, TextIO, cast

import grpc
from rich.console import Console

from healthomics.v1.run_pb2 import Run, RunExport, RunStatus
from healthomics.v1.run_service_pb2 import (
    GetRunRequest,
    WatchRunRequest,
    WatchRunResponse,
)
from healthomics.v1.run_service_pb2_grpc import RunServiceStub
from healthomics_gateway.cli.connection import Transport
from healthomics_gateway.cli.error_view import (
    CallFailure,
    failure_of,
    hint_of,
    write_failure,
)
from healthomics_gateway.cli.reconnect import RetryPolicy
from healthomics_gateway.cli.run_view import run_json, run_text
from healthomics_gateway.cli.usage import DONE, FAILED, RUN_FAILED, plain
from healthomics_gateway.runs.watch_state import digest_of

ENDINGS = {  # the exit code by the final status of a run
    RunStatus.RUN_STATUS_COMPLETED: DONE,
    RunStatus.RUN_STATUS_FAILED: RUN_FAILED,
    RunStatus.RUN_STATUS_CANCELLED: RUN_FAILED,
    RunStatus.RUN_STATUS_DELETED: RUN_FAILED,
}
UNREACHABLE = "the gateway can't be reached"
HEARTBEAT = timedelta(seconds=20)  # proxies end streams that are idle for longer
WATCH_OPTIONS = (  # for a channel that stays open as long as a run lasts
    ("grpc.keepalive_time_ms", 60_000),  # these three detect a dead peer
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.max_pings_without_data", 0),
    # Otherwise gRPC's back-off is added to RetryPolicy's.
    ("grpc.initial_reconnect_backoff_ms", 500),
    ("grpc.min_reconnect_backoff_ms", 5000),  # also the time limit for connecting
    ("grpc.max_reconnect_backoff_ms", 5000),
)

Metadata = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Output:
    """The streams that a command writes to, and the format of an answer."""

    answers: TextIO
    failures: TextIO
    as_json: bool = False
    now: Callable[[], datetime] = lambda: datetime.now(UTC)


def get(
    channel: grpc.Channel,
    run_id: str,
    output: Output,
    *,
    export: Sequence[str] = (),
    max_staleness: timedelta | None = None,
    timeout: timedelta,
    metadata: Callable[[], Metadata] = lambda: (),
    transport: Transport = "plaintext",
) -> int:
    """Call GetRun and write the answer; return the exit code."""
    request = GetRunRequest(
        id=run_id, export=[RunExport.Value(f"RUN_EXPORT_{each}") for each in export]
    )
    if max_staleness is not None:
        request.max_staleness.FromTimedelta(max_staleness)
    try:
        run = RunServiceStub(channel).GetRun(
            request, timeout=timeout.total_seconds(), metadata=tuple(metadata())
        )
    except grpc.RpcError as error:
        return _write_error(error, output.failures, transport=transport)
    if output.as_json:
        output.answers.write(run_json(run) + "\n")
    else:
        console = Console(file=output.answers, highlight=False)
        console.print(run_text(run, now=output.now()), soft_wrap=True)
    return DONE


def _write_error(error: grpc.RpcError, stream: TextIO, *, transport: Transport) -> int:
    # At run time the error is the call itself, which grpc's type stubs don't say.
    write_failure(failure_of(cast("grpc.Call", error)), stream, transport=transport)
    return FAILED


class View(Protocol):
    """Shows a watched run, as a context manager."""

    def __enter__(self) -> object:
        """Start the display."""

    def __exit__(self, *exc: object) -> None:
        """Restore the terminal, whether or not the watch has failed."""

    def show(self, run: Run) -> None:
        """Show a state that differs from the previous one."""

    def note(self, line: str) -> None:
        """Write a line about the watch itself, such as a retry."""

    def end(self, run: Run) -> None:
        """Show the final state after the watch has ended."""


def watch(
    channel: grpc.Channel,
    run_id: str,
    view: View,
    failures: TextIO,
    *,
    policy: RetryPolicy,
    min_interval: timedelta | None = None,
    metadata: Callable[[], Metadata] = lambda: (),
    transport: Transport = "plaintext",
    sleep: Callable[[float], object] = time.sleep,
) -> int:
    """Watch one run to its end, by several streams if needed; return the exit code."""
    request = WatchRunRequest(id=run_id)
    request.heartbeat_interval.FromTimedelta(HEARTBEAT)
    if min_interval is not None:
        request.min_interval.FromTimedelta(min_interval)
    watch_run = RunServiceStub(channel).WatchRun

    def begin(request: WatchRunRequest) -> Iterable[WatchRunResponse]:
        return watch_run(request, metadata=tuple(metadata()))

    def report(failure: CallFailure, wait_seconds: float) -> None:
        view.note(plain(_retry_text(failure, wait_seconds, transport=transport)))

    try:
        with view:
            states = _states(begin, request, policy, report=report, sleep=sleep)
            run = _show(states, view, run_id)
    except grpc.RpcError as error:
        return _write_error(error, failures, transport=transport)
    view.end(run)
    if run.status not in ENDINGS:
        failures.write("The watch has ended, but the run's final status is unknown.\n")
    return ENDINGS.get(run.status, FAILED)


def _show(states: Iterable[Run | None], view: View, run_id: str) -> Run:
    """Show each state; return the last, or a run with only its id if there is none."""
    run = None
    note = f"no state of the run yet; run `get {plain(run_id)}` to find out why"
    for state in states:
        if state is not None:
            run = state
            view.show(run)
        elif run is None and note:
            view.note(note)
            note = ""  # once is enough
    return run or Run(id=run_id)


def _states(
    begin: Callable[[WatchRunRequest], Iterable[WatchRunResponse]],
    request: WatchRunRequest,
    policy: RetryPolicy,
    *,
    report: Callable[[CallFailure, float], None],
    sleep: Callable[[float], object],
) -> Iterator[Run | None]:
    """Yield each state that differs from the previous one; reconnect when needed.

    For each heartbeat, yield None.
    """
    last = Run()
    digest = digest_of(last)
    while True:
        resumed = WatchRunRequest()
        resumed.CopyFrom(request)
        resumed.uuid = last.uuid  # so that another run with the same id is noticed
        try:
            for response in begin(resumed):
                policy.reset()
                if not response.HasField("run"):
                    yield None
                elif (newest := digest_of(response.run)) != digest:
                    last, digest = response.run, newest
                    yield last
        except grpc.RpcError as error:
            if last.status in ENDINGS:
                return  # the final state is known
            failure = failure_of(cast("grpc.Call", error))
            wait_seconds = policy.wait_seconds(failure)
            if wait_seconds is None:
                raise
            # Some proxies cut a stream every minute: report only the second cut.
            if policy.failures == (2 if failure.is_cut else 1):
                report(failure, wait_seconds)
            sleep(wait_seconds)  # RetryInfo's delay, or the back-off
        else:
            return


def _retry_text(
    failure: CallFailure, wait_seconds: float, *, transport: Transport
) -> str:
    wait = f"in {round(wait_seconds, 1):g} s"
    if failure.reason:
        return f"{failure.reason} {failure.message} Trying again {wait}"
    cause = hint_of(failure, transport=transport) or (
        "the connection was cut" if failure.is_cut else UNREACHABLE
    )
    return f"{cause}; trying again {wait}"
