"""Calls through a gateway, for the command line."""

from __future__ import annotations

import random
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
from healthomics_gateway.cli.error_view import (
    Failure,
    Over,
    failure_of,
    hint_of,
    write_failure,
)
from healthomics_gateway.cli.reconnect import Patience
from healthomics_gateway.cli.run_view import run_json, run_text
from healthomics_gateway.cli.usage import plain

DONE, FAILED, RUN_FAILED = 0, 1, 3
ENDINGS = {  # the exit code for each status that a run ends with
    RunStatus.RUN_STATUS_COMPLETED: DONE,
    RunStatus.RUN_STATUS_FAILED: RUN_FAILED,
    RunStatus.RUN_STATUS_CANCELLED: RUN_FAILED,
    RunStatus.RUN_STATUS_DELETED: RUN_FAILED,
}
GONE = "the gateway can't be reached"
HEARTBEAT = timedelta(seconds=20)  # proxies end a stream that is silent for longer
WATCH_OPTIONS = (  # of a channel that lasts as long as a run
    ("grpc.keepalive_time_ms", 60_000),  # these three notice a peer gone silent
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 500),  # else our backoff is added to gRPC's
    ("grpc.min_reconnect_backoff_ms", 5000),  # how long connecting takes at most
    ("grpc.max_reconnect_backoff_ms", 5000),
)

Metadata = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Output:
    """Where a command writes: answers to one stream, failures to the other."""

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
    over: Over = "plaintext",
) -> int:
    """Make one GetRun and write its answer; give the exit code."""
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
        # grpc's stubs don't say so, but a failed call is its own error.
        failure = failure_of(cast("grpc.Call", error))
        write_failure(failure, output.failures, over=over)
        return FAILED
    if output.as_json:
        output.answers.write(run_json(run) + "\n")
    else:
        console = Console(file=output.answers, highlight=False)
        console.print(run_text(run, now=output.now()), soft_wrap=True)
    return DONE


class View(Protocol):
    """Shows a run that is watched, between its entering and its leaving."""

    def __enter__(self) -> object:
        """Begin."""

    def __exit__(self, *exc: object) -> None:
        """Leave everything as it was, whatever has happened."""

    def show(self, run: Run) -> None:
        """Show a state that differs from the one before."""

    def tell(self, line: str) -> None:
        """Tell what stands in the way."""

    def end(self, run: Run) -> None:
        """Show the last state once more, when all is over."""


def watch(
    channel: grpc.Channel,
    run_id: str,
    view: View,
    failures: TextIO,
    *,
    min_interval: timedelta | None = None,
    timeout: timedelta,
    metadata: Callable[[], Metadata] = lambda: (),
    over: Over = "plaintext",
    sleep: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
    jitter: Callable[[], float] = random.random,
) -> int:
    """Follow one run to its end; give the exit code.

    A stream that breaks is begun again, until none has answered for `timeout`.
    """
    request = WatchRunRequest(id=run_id)
    request.heartbeat_interval.FromTimedelta(HEARTBEAT)
    if min_interval is not None:
        request.min_interval.FromTimedelta(min_interval)
    patience = Patience(timeout.total_seconds(), clock=clock, jitter=jitter)
    watch_run = RunServiceStub(channel).WatchRun
    run, is_silence_told = Run(id=run_id), False

    def begin(asked: WatchRunRequest) -> Iterable[WatchRunResponse]:
        return watch_run(asked, metadata=tuple(metadata()))

    def tell(failure: Failure, wait_seconds: float) -> None:
        view.tell(plain(_trouble(failure, wait_seconds, over=over)))

    def beat(last: Run) -> None:
        nonlocal is_silence_told
        if not (last.id or is_silence_told):
            is_silence_told = True
            view.tell(f"no state of the run yet; `get {plain(run_id)}` may say why")

    try:
        with view:
            for run in _states(
                begin, request, patience, tell=tell, beat=beat, sleep=sleep
            ):
                view.show(run)
    except grpc.RpcError as error:
        failure = failure_of(cast("grpc.Call", error))
        write_failure(failure, failures, over=over)
        return FAILED
    view.end(run)
    if run.status not in ENDINGS:
        failures.write("The watch is over, but it isn't known how the run ended.\n")
    return ENDINGS.get(run.status, FAILED)


def _states(
    begin: Callable[[WatchRunRequest], Iterable[WatchRunResponse]],
    request: WatchRunRequest,
    patience: Patience,
    *,
    tell: Callable[[Failure, float], None],
    beat: Callable[[Run], None],
    sleep: Callable[[float], object],
) -> Iterator[Run]:
    """Yield each state that differs, over as many streams as it takes.

    `beat` is called for each heartbeat, with the last state; an empty one is none.
    """
    last = Run()
    while True:
        asked = WatchRunRequest()
        asked.CopyFrom(request)
        asked.uuid = last.uuid  # tells the run apart from another that has got its id
        try:
            for response in begin(asked):
                patience.renew()
                if not response.HasField("run"):
                    beat(last)
                    continue
                state = _timeless(response.run)
                if state != last:
                    last = state
                    yield response.run
        except grpc.RpcError as error:
            if last.status in ENDINGS:
                return  # all is known, however the stream ends
            failure = failure_of(cast("grpc.Call", error))
            wait_seconds = patience.wait_seconds(failure)
            if wait_seconds is None:
                raise
            # A proxy that ends a stream every minute isn't worth a line each time.
            if patience.failures == (2 if failure.is_cut else 1):
                tell(failure, wait_seconds)
            sleep(wait_seconds)  # what the gateway asks for, or the backoff
        else:
            return


def _timeless(run: Run) -> Run:
    """Give what a state is, whenever it was observed."""
    timeless = Run()
    timeless.CopyFrom(run)
    timeless.ClearField("observe_time")
    return timeless


def _trouble(failure: Failure, wait_seconds: float, *, over: Over) -> str:
    wait = f"in {round(wait_seconds, 1):g} s"
    if failure.reason:
        return f"{failure.reason} {failure.message} Trying again {wait}"
    what = hint_of(failure, over=over) or (
        "the stream is cut on its way" if failure.is_cut else GONE
    )
    return f"{what}; trying again {wait}"
