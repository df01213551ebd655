"""Load all servers in turn, round by round, and measure the CPU time of each load."""

import os
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path

import grpc

from common.programs import (
    BenchError,
    Footprint,
    Program,
    bench_program,
    environment,
    free_port,
    gateway,
    running,
    two_workers,
    wait_for,
)
from cost.load import LANES, Request
from cost.report import Sample


@dataclass(frozen=True, slots=True)
class Kind:
    """How a server is started, and which requests it receives."""

    command: Callable[[int], list[str]]  # takes the port
    fetches: int = 0  # upstream requests for each call
    max_staleness_seconds: int = 0
    env: Mapping[str, str] = field(default_factory=dict)  # in addition to that of all
    # Further upstream requests of a load: the first call of a lane at another worker.
    most_more: int = 0
    is_pinned: bool = False  # to one core; the load runs on the others
    lane_rate: int = 0  # calls a second of each lane; 0 for as many as possible


CACHED_SECONDS = 3600  # longer than all rounds take
LANE_RATE = 60  # for each worker 960 calls a second, about a sixth of what it can
SERVERS = {
    "missed": Kind(gateway, fetches=1),
    "remembered": Kind(gateway, max_staleness_seconds=CACHED_SECONDS),
    "two-missed": Kind(two_workers, fetches=1),
    "two-remembered": Kind(
        two_workers, max_staleness_seconds=CACHED_SECONDS, most_more=LANES
    ),
    "pinned": Kind(gateway, max_staleness_seconds=CACHED_SECONDS, is_pinned=True),
    "two-pinned": Kind(
        two_workers,
        max_staleness_seconds=CACHED_SECONDS,
        most_more=LANES,
        is_pinned=True,
    ),
    "steady": Kind(gateway, max_staleness_seconds=CACHED_SECONDS, lane_rate=LANE_RATE),
    "two-steady": Kind(
        two_workers,
        max_staleness_seconds=CACHED_SECONDS,
        most_more=LANES,
        lane_rate=2 * LANE_RATE,
    ),
    "unmeasured": Kind(
        lambda port: bench_program("cost.unmeasured", port),
        max_staleness_seconds=CACHED_SECONDS,
    ),
    "unsampled": Kind(
        gateway,
        max_staleness_seconds=CACHED_SECONDS,
        env={"OTEL_TRACES_EXPORTER": "otlp", "OTEL_TRACES_SAMPLER": "always_off"},
    ),
    "echo": Kind(lambda port: bench_program("cost.echo", port)),
    "boto3": Kind(lambda port: bench_program("common.boto3_servicer", port), fetches=1),
}

_COUNT_SECONDS = 10.0
_WARM_UP_CALLS = 64  # in each lane
_MIN_CALLS = 16  # in each lane


@dataclass(frozen=True, slots=True)
class Upstream:
    """The process of the fake HealthOmics."""

    port: int
    program: Program

    def count(self) -> int:
        """Return the number of runs that it has returned."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=_COUNT_SECONDS)
        try:
            connection.request("GET", "/count")
            return int(connection.getresponse().read())
        finally:
            connection.close()


@dataclass(frozen=True, slots=True)
class Server:
    """The process of a server that is measured."""

    name: str
    port: int
    program: Program
    kind: Kind
    request: Request


class Rounds:
    """Starts the servers, measures them in rounds and stops them.

    `seconds` is the approximate length of one load. Logs are written to `folder`.
    """

    def __init__(self, *, h2load: str, seconds: float, folder: Path) -> None:
        self._h2load = h2load
        self._seconds = seconds
        self._folder = folder
        self.footprints: dict[str, Footprint] = {}  # after all rounds

    def samples(self, names: Sequence[str], *, rounds: int) -> Generator[Sample]:
        """Yield the measurements of each load when it ends."""
        with ExitStack() as stack:
            upstream = self._start_upstream(stack)
            servers = [self._start(name, upstream, stack) for name in names]
            calls = [self._warm_up(server) for server in servers]
            for number in range(1, rounds + 1):
                for server, count in zip(servers, calls, strict=True):
                    yield self._sample(number, server, upstream, calls=count)
            for server in servers:
                self.footprints[server.name] = server.program.footprint()

    def _start_upstream(self, stack: ExitStack) -> Upstream:
        port = free_port()
        log = self._folder / "upstream.log"
        command = bench_program("cost.upstream", port)
        program = stack.enter_context(running(command, env={}, log=log))
        upstream = Upstream(port, program)
        wait_for(upstream.count, program)
        return upstream

    def _start(self, name: str, upstream: Upstream, stack: ExitStack) -> Server:
        port = free_port()
        log = self._folder / f"{name}.log"
        kind = SERVERS[name]
        first, *others = all_cores = sorted(os.sched_getaffinity(0))
        is_pinned = kind.is_pinned and bool(others)
        request = Request(
            h2load=self._h2load,
            folder=self._folder,
            max_staleness_seconds=kind.max_staleness_seconds,
            cores=set(others if is_pinned else all_cores),
            lane_rate=kind.lane_rate,
        )
        env = {**environment(upstream.port), **kind.env}
        cores = {first} if is_pinned else None
        command = kind.command(port)
        program = stack.enter_context(running(command, env=env, log=log, cores=cores))
        wait_for(lambda: request.check(port), program)
        return Server(name, port, program, kind, request)

    def _warm_up(self, server: Server) -> int:
        """Send a load without measuring; return the calls per lane of a full load."""
        load = server.request.send(_WARM_UP_CALLS, port=server.port)
        return max(_MIN_CALLS, round(_WARM_UP_CALLS / load.seconds * self._seconds))

    def _sample(
        self, number: int, server: Server, upstream: Upstream, *, calls: int
    ) -> Sample:
        self._check(server)
        counted = upstream.count()
        upstream_cpu = upstream.program.cpu_seconds()
        first_cpu = server.program.first_cpu_seconds()
        cpu = server.program.cpu_seconds()
        load = server.request.send(calls, port=server.port)
        cpu = server.program.cpu_seconds() - cpu
        first_cpu = server.program.first_cpu_seconds() - first_cpu
        upstream_cpu = upstream.program.cpu_seconds() - upstream_cpu
        fetched = upstream.count() - counted
        more = fetched - load.succeeded * server.kind.fetches
        if not 0 <= more <= server.kind.most_more:
            raise BenchError(
                f"{server.name} sent {fetched} upstream requests for {load.succeeded} "
                f"calls, instead of {server.kind.fetches} for each call"
            )
        self._check(server)
        return Sample(
            round=number,
            server=server.name,
            calls=load.succeeded,
            seconds=load.seconds,
            cpu_seconds=cpu,
            first_cpu_seconds=first_cpu,
            upstream_cpu_seconds=upstream_cpu,
        )

    def _check(self, server: Server) -> None:
        server.program.check_runs()
        try:
            server.request.check(server.port)
        except grpc.RpcError as error:
            raise BenchError(f"{server.name} failed a call: {error}") from error
