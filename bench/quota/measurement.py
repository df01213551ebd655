"""Measure one server: start it with an account of its own, and poll it."""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

from common.programs import (
    Program,
    bench_program,
    environment,
    free_port,
    gateway,
    running,
    wait_for,
)
from quota.envoy import envoy_command
from quota.load import Outcome, Polling, check, poll

SERVERS = ("gateway", "boto3", "envoy")
STRICT, STALE = "strict", "stale"
MODES = {
    STRICT: Polling(deadline_seconds=10.0),
    STALE: Polling(deadline_seconds=2.0, max_staleness_seconds=10),
}

_ACCOUNT_SECONDS = 10.0
_SETTLE_SECONDS = 1.0  # after the check, until the token bucket is full again


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """A request that the account received."""

    at: float  # seconds since the load began
    is_throttled: bool


@dataclass(frozen=True, slots=True)
class Measured:
    """All calls to one server in one mode, and all its upstream requests."""

    mode: str
    server: str
    seconds: float
    uncounted_seconds: float  # at the beginning of the load
    outcomes: Sequence[Outcome]
    requests: Sequence[UpstreamRequest]


@dataclass(frozen=True, slots=True)
class _Account:
    port: int
    program: Program

    def record(self) -> list[tuple[float, bool]]:
        """Return the monotonic time of each request, and whether it was throttled."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=_ACCOUNT_SECONDS)
        try:
            connection.request("GET", "/record")
            answer = json.load(connection.getresponse())
            return [(at, is_throttled) for at, is_throttled in answer]
        finally:
            connection.close()


def measure(
    mode: str,
    server: str,
    *,
    seconds: float,
    folder: Path,
    each_second: Callable[[Sequence[Outcome]], None],
) -> Measured:
    """Start an account and the server, poll the server, and stop both.

    Logs and configuration are written to `folder`. `each_second` is as in `poll`.
    Raises `BenchError` if a process ends or a response is wrong.
    """
    polling = MODES[mode]
    with ExitStack() as stack:
        account = _start_account(stack, folder / f"{mode}-{server}-account.log")
        port, program = _start(server, account.port, folder, stack)
        wait_for(lambda: check(port, polling), program)
        time.sleep(_SETTLE_SECONDS)
        began = time.monotonic()

        def check_programs(outcomes: Sequence[Outcome]) -> None:
            program.check_runs()
            account.program.check_runs()
            each_second(outcomes)

        outcomes = asyncio.run(
            poll(
                port,
                polling,
                began=began,
                seconds=seconds,
                each_second=check_programs,
            )
        )
        record = account.record()
    return Measured(
        mode=mode,
        server=server,
        seconds=seconds,
        uncounted_seconds=seconds / 6,
        outcomes=outcomes,
        requests=[
            UpstreamRequest(at - began, is_throttled)
            for at, is_throttled in record
            if at >= began
        ],
    )


def _start_account(stack: ExitStack, log: Path) -> _Account:
    port = free_port()
    command = bench_program("quota.account", port)
    account = _Account(port, stack.enter_context(running(command, env={}, log=log)))
    wait_for(account.record, account.program)
    return account


def _start(
    server: str, upstream_port: int, folder: Path, stack: ExitStack
) -> tuple[int, Program]:
    port = free_port()
    command = _command(server, port, upstream_port=upstream_port, folder=folder)
    env = {
        name: value
        for name, value in environment(upstream_port).items()
        if not name.startswith("GATEWAY_")  # measures the gateway's defaults
    }
    log = folder / f"{server}.log"
    return port, stack.enter_context(running(command, env=env, log=log))


def _command(server: str, port: int, *, upstream_port: int, folder: Path) -> list[str]:
    if server == "gateway":
        return gateway(port)
    if server == "boto3":
        return bench_program("common.boto3_servicer", port)
    return envoy_command(port, upstream_port=upstream_port, folder=folder)
