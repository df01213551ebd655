"""One measurement: a server beside a fresh account, loaded by all callers."""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import quota_envoy
from programs import (
    BenchError,
    Program,
    bench_program,
    environment,
    free_port,
    gateway,
    running,
    wait_for,
)
from quota_load import Outcome, Polling, check, poll

SERVERS = ("gateway", "boto3", "envoy")
STRICT, STALE = "strict", "stale"
MODES = {
    STRICT: Polling(deadline_seconds=10.0),
    STALE: Polling(deadline_seconds=2.0, max_staleness_seconds=10),
}

_ACCOUNT_SECONDS = 10.0
_SETTLE_SECONDS = 1.0  # after the check: all its token's worth has come back


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as the account saw it."""

    at: float  # seconds since the load began
    is_throttled: bool


@dataclass(frozen=True, slots=True)
class Measured:
    """All that was seen of one server in one mode."""

    mode: str
    server: str
    seconds: float
    uncounted_seconds: float  # at the beginning
    outcomes: Sequence[Outcome]
    asked: Sequence[Asked]


@dataclass(frozen=True, slots=True)
class _Account:
    port: int
    program: Program

    def record(self) -> list[tuple[float, bool]]:
        """Return when each request came, by the monotonic clock, and if throttled."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=_ACCOUNT_SECONDS)
        try:
            connection.request("GET", "/record")
            return [(at, bad) for at, bad in json.load(connection.getresponse())]
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
    """Start an account and the server, let the callers poll, stop both.

    `folder` takes logs and configuration. Raises `BenchError` where a process ends or
    an answer is wrong.
    """
    polling = MODES[mode]
    with ExitStack() as stack:
        account = _start_account(stack, folder / f"{mode}-{server}-account.log")
        port, program = _start(server, account.port, folder, stack)
        wait_for(lambda: check(port, polling), program)
        time.sleep(_SETTLE_SECONDS)  # the bucket fills at its own pace
        began = time.monotonic()

        def tell(outcomes: Sequence[Outcome]) -> None:
            program.check_runs()
            account.program.check_runs()
            each_second(outcomes)

        outcomes = asyncio.run(
            poll(port, polling, began=began, seconds=seconds, each_second=tell)
        )
        record = account.record()
    return Measured(
        mode=mode,
        server=server,
        seconds=seconds,
        uncounted_seconds=seconds / 6,
        outcomes=outcomes,
        asked=[Asked(at - began, bad) for at, bad in record if at >= began],
    )


def _start_account(stack: ExitStack, log: Path) -> _Account:
    port = free_port()
    command = bench_program("quota_account.py", port)
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
        if not name.startswith("GATEWAY_")  # its defaults are what is measured
    }
    log = folder / f"{server}.log"
    return port, stack.enter_context(running(command, env=env, log=log))


def _command(server: str, port: int, *, upstream_port: int, folder: Path) -> list[str]:
    if server == "gateway":
        return gateway(port)
    if server == "boto3":
        return bench_program("boto3_servicer.py", port)
    envoy = quota_envoy.find()
    if envoy is None:
        raise BenchError("there is no Envoy any more")
    return quota_envoy.command(envoy, port, upstream_port=upstream_port, folder=folder)
