"""The rounds: every server loaded in turn, its CPU time read around each load."""

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import grpc
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
from report import Sample

from load import Request


@dataclass(frozen=True, slots=True)
class Kind:
    """What is measured: a server, and how it is asked."""

    command: Callable[[int], list[str]]  # of its port
    fetches: int = 0  # of the upstream, for each call
    max_staleness_seconds: int = 0


REMEMBERED_SECONDS = 3600  # longer than all rounds take
SERVERS = {
    "missed": Kind(gateway, fetches=1),
    "remembered": Kind(gateway, max_staleness_seconds=REMEMBERED_SECONDS),
    "echo": Kind(lambda port: bench_program("echo.py", port)),
    "boto3": Kind(lambda port: bench_program("boto3_servicer.py", port), fetches=1),
}

_COUNT_SECONDS = 10.0
_WARM_UP_CALLS = 64  # in each lane, as below
_LEAST_CALLS = 16


@dataclass(frozen=True, slots=True)
class Upstream:
    """The canned HealthOmics."""

    port: int
    program: Program

    def count(self) -> int:
        """Return how many runs it has answered."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=_COUNT_SECONDS)
        try:
            connection.request("GET", "/count")
            return int(connection.getresponse().read())
        finally:
            connection.close()


@dataclass(frozen=True, slots=True)
class Server:
    """A server under measurement."""

    name: str
    port: int
    program: Program
    fetches: int  # for each call
    request: Request


class Rounds:
    """Starts what a measurement needs, measures, and stops it all again.

    `seconds` is about how long one load lasts; `folder` takes the logs.
    """

    def __init__(self, *, h2load: str, seconds: float, folder: Path) -> None:
        self._h2load = h2load
        self._seconds = seconds
        self._folder = folder

    def samples(self, names: Sequence[str], *, rounds: int) -> Generator[Sample]:
        """Yield the figures of each load as soon as they are there."""
        with ExitStack() as stack:
            upstream = self._start_upstream(stack)
            servers = [self._start(name, upstream, stack) for name in names]
            calls = [self._warm_up(server) for server in servers]
            for number in range(1, rounds + 1):
                for server, count in zip(servers, calls, strict=True):
                    yield self._sample(number, server, upstream, calls=count)

    def _start_upstream(self, stack: ExitStack) -> Upstream:
        port = free_port()
        log = self._folder / "upstream.log"
        command = bench_program("upstream.py", port)
        program = stack.enter_context(running(command, env={}, log=log))
        upstream = Upstream(port, program)
        wait_for(upstream.count, program)
        return upstream

    def _start(self, name: str, upstream: Upstream, stack: ExitStack) -> Server:
        port = free_port()
        log = self._folder / f"{name}.log"
        kind = SERVERS[name]
        request = Request(
            h2load=self._h2load,
            folder=self._folder,
            max_staleness_seconds=kind.max_staleness_seconds,
        )
        env = environment(upstream.port)
        program = stack.enter_context(running(kind.command(port), env=env, log=log))
        wait_for(lambda: request.check(port), program)
        return Server(name, port, program, kind.fetches, request)

    def _warm_up(self, server: Server) -> int:
        """Load a server unmeasured; return how many calls a lane makes in a load."""
        load = server.request.send(_WARM_UP_CALLS, port=server.port)
        return max(_LEAST_CALLS, round(_WARM_UP_CALLS / load.seconds * self._seconds))

    def _sample(
        self, number: int, server: Server, upstream: Upstream, *, calls: int
    ) -> Sample:
        self._check(server)
        counted = upstream.count()
        upstream_cpu = upstream.program.cpu_seconds()
        cpu = server.program.cpu_seconds()
        load = server.request.send(calls, port=server.port)
        cpu = server.program.cpu_seconds() - cpu
        upstream_cpu = upstream.program.cpu_seconds() - upstream_cpu
        fetched = upstream.count() - counted
        if fetched != load.succeeded * server.fetches:
            raise BenchError(
                f"{server.name} asked the upstream {fetched} times for "
                f"{load.succeeded} calls, "
                f"not {server.fetches} times for each"
            )
        self._check(server)
        return Sample(
            round=number,
            server=server.name,
            calls=load.succeeded,
            seconds=load.seconds,
            cpu_seconds=cpu,
            upstream_cpu_seconds=upstream_cpu,
        )

    def _check(self, server: Server) -> None:
        server.program.check_runs()
        try:
            server.request.check(server.port)
        except grpc.RpcError as error:
            raise BenchError(f"{server.name} failed a call: {error}") from error
