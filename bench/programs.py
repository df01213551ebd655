"""The processes of a measurement: how each is started, stopped and what it cost."""

import argparse
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc

_BENCH = Path(__file__).resolve().parent
_BIN = Path(sys.executable).parent
_START_SECONDS = 30.0
_WAIT_SECONDS = 0.1  # between two looks
_STOP_SECONDS = 10.0  # then the process is killed
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_LOG_TAIL = 2000  # characters of a log worth showing

# utime, stime, cutime and cstime of /proc/PID/stat, counted after the name (proc(5)).
_CPU_FIELDS = slice(11, 15)


class BenchError(Exception):
    """What was measured can't be trusted, or couldn't be measured: says why."""


def bench_program(name: str, port: int) -> list[str]:
    """Return the command of one of the programs beside this one."""
    return [sys.executable, str(_BENCH / name), str(port)]


def gateway(port: int) -> list[str]:
    """Return the command of the server that the bench is about."""
    program = str(_BIN / "healthomics-gateway")
    listen, admin = f"127.0.0.1:{port}", f"127.0.0.1:{free_port()}"
    return [program, "serve", "--listen", listen, "--admin-listen", admin]


def free_port() -> int:
    """Return a loopback port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def environment(upstream_port: int) -> dict[str, str]:
    """Return the whole environment of a server: nothing of this machine's settings."""
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


class Program:
    """One process with a log file, in a session of its own: Ctrl-C is the driver's."""

    def __init__(self, command: list[str], *, env: dict[str, str], log: Path) -> None:
        self.name = log.stem
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def check_runs(self) -> None:
        """Raise `BenchError` with the log's end if the process has ended."""
        if (code := self._process.poll()) is not None:
            tail = self._log.read_text(errors="replace")[-_LOG_TAIL:]
            raise BenchError(f"{self.name} ended with code {code}:\n{tail}")

    def cpu_seconds(self) -> float:
        """Return the CPU time that the process, its threads and children have used."""
        return sum(map(_own_cpu_seconds, _family(self._process.pid)))

    def stop(self) -> None:
        """End the process, by its id, and wait for its end."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def running(command: list[str], *, env: dict[str, str], log: Path) -> Iterator[Program]:
    """Run one process for as long as the block lasts."""
    program = Program(command, env=env, log=log)
    try:
        yield program
    finally:
        program.stop()


def wait_for(answers: Callable[[], object], program: Program) -> None:
    """Ask until an answer comes; raise `BenchError` when the program ends first."""
    give_up = time.monotonic() + _START_SECONDS
    while True:
        program.check_runs()
        try:
            answers()
        except (OSError, grpc.RpcError) as error:
            if time.monotonic() > give_up:
                raise BenchError(f"{program.name} doesn't answer: {error}") from error
            time.sleep(_WAIT_SECONDS)  # a process that starts tells nobody
        else:
            return


def names_of(known: Iterable[str]) -> Callable[[str], list[str]]:
    """Read a list of some of these names; for argparse."""

    def read(text: str) -> list[str]:
        names = text.split(",")
        if unknown := set(names) - set(known):
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}")
        return [name for name in known if name in names]

    return read


def _family(pid: int) -> Iterator[int]:
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            yield from _family(int(child))


def _own_cpu_seconds(pid: int) -> float:
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, after_name[_CPU_FIELDS])) / _TICKS_PER_SECOND
