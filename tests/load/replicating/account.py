"""The fake account as a program: HealthOmics and STS, and the time of each request.

It prints the addresses of both as JSON, and then reads when the load began, a time of
the monotonic clock. It writes each arrival to a file at once, and ends with its input.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

from load.replicating.runs import Arrival, Lives
from testkit.builders import http
from testkit.lying_upstream import Answer, LyingUpstream, Request, Wait, true_run
from testkit.sts_server import FakeSts

LATENCY_SECONDS = 0.05  # of each answer
END_SECONDS = 5.0
GROUPS = ("1000001", "1000002")  # of runs


class Account:
    """Answers GetRun for any run; the name of a run is the time of its arrival."""

    def __init__(self, lives: Lives, record: IO[str]) -> None:
        """Write the arrivals to `record`."""
        self._lives = lives
        self._record = record
        self.begun = math.inf

    def answer(self, request: Request) -> Answer:
        """Record a request and answer it with the state of its time."""
        self._record.write(f"{request.at} {request.run_id}\n")
        run = true_run(
            request.run_id,
            name=repr(request.at),
            status=self._lives.status(request.run_id, request.at - self.begun),
            uuid=uuid_of(request.run_id),
            runGroupId=group_of(request.run_id),
        )
        return [Wait(LATENCY_SECONDS), http(run)]


def uuid_of(run_id: str) -> str:
    """Return the UUID of a run."""
    return f"00000000-0000-4000-8000-{int(run_id):012}"


def group_of(run_id: str) -> str:
    """Return the group of a run: every second one is in the second group."""
    return GROUPS[int(run_id) % len(GROUPS)]


def arrivals(file: Path) -> Iterator[Arrival]:
    """Return the arrivals that were written to a file, in order."""
    for line in file.read_text().splitlines():
        at, run_id = line.split()
        yield Arrival(float(at), run_id)


class Running:
    """The program, seen from the one that started it."""

    def __init__(self, process: Process, url: str, sts: str) -> None:
        """Take the process, and the addresses that it serves."""
        self._process = process
        self.url = url
        self.sts = sts

    def begin(self, at: float) -> None:
        """Say when the load began: the lives of the runs begin then."""
        assert self._process.stdin
        self._process.stdin.write(f"{at}\n".encode())


@asynccontextmanager
async def running(lives: Lives, file: Path) -> AsyncIterator[Running]:
    """Run the program; it writes the arrivals to `file`."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", __name__, str(file)),
        *(str(each) for each in (lives.runs, lives.first_end, lives.last_end)),
        stdin=PIPE,
        stdout=PIPE,
    )
    assert process.stdin
    assert process.stdout
    try:
        yield Running(process, **json.loads(await process.stdout.readline()))
    finally:
        process.stdin.close()
        try:
            async with asyncio.timeout(END_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def _serve(lives: Lives, file: Path) -> None:
    loop = asyncio.get_running_loop()
    with file.open("w", buffering=1) as record:  # a line at a time
        account = Account(lives, record)
        async with LyingUpstream(truth=account.answer) as upstream, FakeSts() as sts:
            _say(json.dumps({"url": upstream.url, "sts": sts.url}))
            while line := await loop.run_in_executor(None, sys.stdin.readline):
                account.begun = float(line)


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201  # read by the program that started this one


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code."""
    parser = argparse.ArgumentParser(prog="account", description=__doc__)
    parser.add_argument("file", type=Path, help="for the arrivals")
    parser.add_argument("runs", type=int, help="number of watched runs")
    parser.add_argument("first_end", type=float, help="seconds since the load began")
    parser.add_argument("last_end", type=float)
    options = parser.parse_args(arguments)
    lives = Lives(options.runs, options.first_end, options.last_end)
    asyncio.run(_serve(lives, options.file))
    return 0


if __name__ == "__main__":
    sys.exit(main())
