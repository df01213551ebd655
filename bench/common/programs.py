"""Start and stop the processes of a benchmark, and measure their CPU time."""

import argparse
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

_BENCH = Path(__file__).resolve().parents[1]
_BIN = Path(sys.executable).parent
_START_SECONDS = 30.0
_WAIT_SECONDS = 0.1  # between two attempts
_STOP_SECONDS = 10.0  # then the process is killed
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_LOG_TAIL = 2000  # characters of the log that an error message contains

# utime, stime, cutime and cstime in /proc/PID/stat, counted after the name (proc(5)).
_CPU_FIELDS = slice(11, 15)
_OWN_FIELDS = slice(11, 13)


class BenchError(Exception):
    """A measurement failed or its figures are invalid; the message contains why."""


def bench_program(module: str, port: int) -> list[str]:
    """Return the command that runs a module of the benchmarks as a server."""
    return [sys.executable, "-m", module, str(port)]


def gateway(port: int) -> list[str]:
    """Return the command that runs the gateway."""
    program = str(_BIN / "healthomics-gateway")
    listen, admin = f"127.0.0.1:{port}", f"127.0.0.1:{free_port()}"
    return [program, "serve", "--listen", listen, "--admin-listen", admin]


def two_workers(port: int) -> list[str]:
    """Return the command that runs the gateway with two workers."""
    return [*gateway(port), "--workers", "2"]


def free_port() -> int:
    """Return an unused loopback port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def environment(upstream_port: int) -> dict[str, str]:
    """Return the complete environment of a server, without this machine's settings."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "AWS_ENDPOINT_URL_OMICS": f"http://127.0.0.1:{upstream_port}",
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "made-up",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "GATEWAY_QUOTA__TPS": "10000",
        "GATEWAY_QUOTA__BURST": "10000",
        "GATEWAY_CACHE__MAX_STALENESS_LIMIT": "1h",
    }


@dataclass(frozen=True, slots=True)
class Footprint:
    """The memory of a server's processes, in MiB."""

    pss_mib: float  # of all: shared pages count by their share
    workers_mib: list[float]  # of each process that serves: what it shares with none
    others_mib: float  # of the others, as for all


class Program:
    """A process with a log file, in a session of its own that Ctrl-C doesn't reach."""

    def __init__(
        self, command: list[str], *, env: dict[str, str], log: Path, cores: set[int]
    ) -> None:
        self.name = log.stem
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                cwd=_BENCH,  # the import path of `python -m`
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        os.sched_setaffinity(self._process.pid, cores)  # its processes inherit it

    def check_runs(self) -> None:
        """Raise `BenchError` with the end of the log if the process has ended."""
        if (code := self._process.poll()) is not None:
            tail = self._log.read_text(errors="replace")[-_LOG_TAIL:]
            raise BenchError(f"{self.name} ended with exit code {code}:\n{tail}")

    def cpu_seconds(self) -> float:
        """Return the CPU time of the process and its descendants."""
        return sum(map(_cpu_seconds, _process_tree(self._process.pid)))

    def first_cpu_seconds(self) -> float:
        """Return the CPU time of the process without that of its descendants."""
        return _cpu_seconds(self._process.pid, fields=_OWN_FIELDS)

    def footprint(self) -> Footprint:
        """Return the memory of the process and of its descendants."""
        pid = self._process.pid
        workers = [each for each in _process_tree(pid) if not _children(each)]
        others = [each for each in _process_tree(pid) if each not in workers]
        return Footprint(
            pss_mib=sum(_memory_mib(each, "Pss") for each in (*workers, *others)),
            # Those that serve have no children.
            workers_mib=[
                _memory_mib(each, "Private_Clean") + _memory_mib(each, "Private_Dirty")
                for each in workers
            ],
            others_mib=sum(_memory_mib(each, "Pss") for each in others),
        )

    def stop(self) -> None:
        """Terminate the process and wait until it has ended."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def running(
    command: list[str],
    *,
    env: dict[str, str],
    log: Path,
    cores: set[int] | None = None,
) -> Iterator[Program]:
    """Run a process while the block runs, on some cores if they are given."""
    allowed = os.sched_getaffinity(0) if cores is None else cores
    program = Program(command, env=env, log=log, cores=allowed)
    try:
        yield program
    finally:
        program.stop()


def wait_for(request: Callable[[], object], program: Program) -> None:
    """Repeat `request` until it succeeds.

    Raises `BenchError` if the program ends, or doesn't answer within 30 seconds.
    """
    give_up_at = time.monotonic() + _START_SECONDS
    while True:
        program.check_runs()
        try:
            request()
        except (OSError, grpc.RpcError) as error:
            if time.monotonic() > give_up_at:
                raise BenchError(f"{program.name} doesn't answer: {error}") from error
            time.sleep(_WAIT_SECONDS)
        else:
            return


def names_of(known: Iterable[str]) -> Callable[[str], list[str]]:
    """Return an argparse type: a comma-separated list of known names."""

    def parse(text: str) -> list[str]:
        names = text.split(",")
        if unknown := set(names) - set(known):
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}")
        return [name for name in known if name in names]

    return parse


def _process_tree(pid: int) -> Iterator[int]:
    yield pid
    for child in _children(pid):
        yield from _process_tree(child)


def _children(pid: int) -> list[int]:
    files = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for each in files for child in each.read_text().split()]


def _cpu_seconds(pid: int, *, fields: slice = _CPU_FIELDS) -> float:
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, after_name[fields])) / _TICKS_PER_SECOND


def _memory_mib(pid: int, name: str) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise BenchError(f"the kernel doesn't say {name} of a process")
