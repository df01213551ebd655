"""The zygote, in processes of its own."""

from __future__ import annotations

import errno
import gc
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from healthomics_gateway.configuration_error import ConfigurationError
from healthomics_gateway.workers.pings import MAX_MISSES
from healthomics_gateway.workers.zygote import start_zygote

# Runs a supervisor that starts a worker with each behaviour, and prints what it learns.
PROGRAM = """
import asyncio, errno, json, os, signal, socket, sys, threading, time
from structlog.testing import capture_logs
from healthomics_gateway.workers.zygote import Forked, start_zygote

case, end_seconds, supervisor = sys.argv[1], float(sys.argv[2]), os.getpid()
os.environ["NOTIFY_SOCKET"] = "/run/systemd"
signal.signal(signal.SIGTERM, lambda *_: os._exit(7))
signal.signal(signal.SIGHUP, signal.SIG_IGN)

def say(**what):
    os.write(1, json.dumps(what).encode() + b"\\n")

def fork():
    if case == "full" and os.getpid() != supervisor:
        raise OSError(errno.EAGAIN, "no more processes")
    return os.fork()

def be_worker(place):
    if place.number != 5:
        os._exit(0)
    say(
        number=place.number,
        group=os.getpgid(0),
        parent=os.getppid(),
        threads=threading.active_count(),
        systemd=os.environ.get("NOTIFY_SOCKET"),
        ignored=[
            signal.getsignal(each) is signal.SIG_IGN
            for each in (signal.SIGHUP, signal.SIGTTOU, signal.SIGINT)
        ],
        got=place.control.recv(9).decode(),
    )
    if case == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if case not in ("ended", "full"):
        place.control.sendall(b"x")
        time.sleep(60)  # until it is ended
    sys.exit(3)

place = start_zygote(end_seconds=end_seconds, fork=fork)
if isinstance(place, Forked):
    be_worker(place)

async def freeze(pid, pids):
    pauses = []

    async def sleep(seconds):
        pauses.append(seconds)
        if len(pauses) <= 20:  # it has answered when it has forked another worker
            _, theirs = socket.socketpair()
            place.fork(6, theirs)
            await pids.get()
        if len(pauses) == 20:
            os.kill(os.getpgid(pid), signal.SIGSTOP)

    with capture_logs() as logs:
        await place.watch(sleep=sleep)
    os.kill(pid, signal.SIGKILL)
    say(pauses=pauses, events=[each["event"] for each in logs])

async def supervise():
    pids, ended = asyncio.Queue(), asyncio.Queue()
    if case == "unread":
        ours, theirs = socket.socketpair()
        ours.sendall(b"hello")
        place.fork(5, theirs)
        ours.recv(1)
        time.sleep(0.2)  # until the zygote has reported the worker
        os._exit(0)
    place.open(
        forked=lambda *what: pids.put_nowait(what),
        ended=lambda *what: ended.put_nowait(what),
    )
    ours, theirs = socket.socketpair()
    ours.sendall(b"hello")
    place.fork(5, theirs)
    theirs.close()
    if case != "full":
        number, pid = await pids.get()
        if case != "ended":
            await asyncio.to_thread(ours.recv, 1)
    if case == "orphaned":
        os._exit(0)
    if case == "frozen":
        await freeze(pid, pids)
        return
    if case == "killed":
        place.kill(1)  # isn't its child
        place.kill(pid)
    if case == "stubborn":
        place.end_within(60)
        place.end_within(0.1)
        place.end_within(60)
    if case == "terminated":
        os.kill(pid, signal.SIGTERM)
    number, how = await ended.get()
    say(ended=number, code=how.code, why=how.why)
    place.close()

asyncio.run(supervise())
"""


def run(case: str, *, end_seconds: float = 60.0) -> list[Mapping[str, Any]]:
    """Return what the processes print, when all of them have ended."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, case, str(end_seconds)],
        capture_output=True,
        check=True,
        timeout=50,
    )
    return [json.loads(each) for each in done.stdout.splitlines()]


def test_worker_gets_its_number_and_its_connection() -> None:
    """It has one thread, the signals of before, and its parent's group.

    Only SIGTTOU is ignored from then on, so that it can write to a terminal.
    """
    worker, end = run("ended")

    assert {"ended": 5, "code": 3, "why": ""} == end
    group, parent = worker.pop("group"), worker.pop("parent")
    assert group == parent != os.getpgid(0)
    assert {
        "number": 5,
        "threads": 1,
        "systemd": None,
        "ignored": [True, True, False],
        "got": "hello",
    } == worker


def test_worker_that_is_killed_is_reported() -> None:
    """The zygote kills only its own workers."""
    assert {"ended": 5, "code": -signal.SIGKILL, "why": ""} == run("killed")[-1]


def test_signal_handlers_of_before_are_the_workers() -> None:
    """A signal before the gateway starts ends it as it ends a single process."""
    assert {"ended": 5, "code": 7, "why": ""} == run("terminated")[-1]


def test_workers_are_killed_in_time() -> None:
    """The earliest time counts."""
    assert {"ended": 5, "code": -signal.SIGKILL, "why": ""} == run("stubborn")[-1]


def test_workers_are_killed_in_time_without_their_supervisor() -> None:
    """The output ends when the worker has ended, and the zygote."""
    assert [5] == [each["number"] for each in run("orphaned", end_seconds=0.1)]


def test_workers_are_killed_after_a_supervisor_that_read_no_report() -> None:
    """The connection is reset, as the supervisor has left a report unread."""
    assert [5] == [each["number"] for each in run("unread", end_seconds=0.1)]


def test_worker_that_cannot_be_forked_is_reported() -> None:
    """It has ended before it had a process id."""
    assert [{"ended": 5, "code": None, "why": "no more processes"}] == run("full")


@pytest.mark.guarantee("workers-replaced")
def test_zygote_that_answers_no_ping_is_killed() -> None:
    """It has answered 20 pings before it is stopped, then none of 16."""
    _, end = run("frozen")

    assert [1.0] * (20 + MAX_MISSES + 1) == end["pauses"]
    assert ["zygote_frozen"] == end["events"]


def test_zygote_never_loads_grpc() -> None:
    """GRPC isn't loaded before the fork, nor is any thread started."""
    program = (
        "import sys, threading; from importlib import import_module;"
        " from healthomics_gateway.cli import main, serve, serve_workers;"
        " [import_module(each) for each in serve_workers.SHARED_MODULES];"
        " loaded = [each in sys.modules for each in ('grpc', 'boto3')];"
        " print(*loaded, threading.active_count())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, text=True
    )

    assert "False True 1\n" == done.stdout


def test_zygote_that_cannot_be_forked_is_a_fault() -> None:
    """The gateway ends with a text that says what to raise."""

    def fork() -> int:
        raise OSError(errno.EAGAIN, "no more processes")

    try:
        with pytest.raises(ConfigurationError, match="no more processes"):
            start_zygote(end_seconds=1.0, fork=fork)
    finally:
        gc.unfreeze()  # the objects of the tests' process
