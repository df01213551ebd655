"""The writer of the log: `put` never waits, and lost lines are counted."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from healthomics_gateway.telemetry.log_writer import LogWriter

PATIENCE_SECONDS = 20.0
PIPE_BYTES = 65_536  # what a pipe holds
SIZE = 1024  # of a line, with its newline
START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SINCE = "since 2026-01-02T03:04:05Z"


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        """Begin at START."""
        self.now = START
        self.asked = threading.Event()

    def __call__(self) -> datetime:
        """Return the time."""
        now = self.now
        self.asked.set()
        return now


def line(name: str) -> bytes:
    """Return a line of SIZE bytes, without its newline."""
    return name.encode().ljust(SIZE - 1, b".")


def writer(file: int, **how: Any) -> LogWriter:
    """Return a writer whose reports are short."""
    return LogWriter(file, report=lambda *lost: line(f"lost {lost}").decode(), **how)


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    """Open a pipe that nothing reads yet."""
    reader, end = os.pipe()
    try:
        yield reader, end
    finally:
        os.close(reader)
        os.close(end)


def fill(end: int) -> int:
    """Write to a pipe until it is full; return how many bytes it holds."""
    os.set_blocking(end, False)
    written = 0
    try:
        while True:
            written += os.write(end, bytes(1024))
    except BlockingIOError:
        return written


def read(reader: int, size: int) -> bytes:
    """Read exactly `size` bytes."""
    data = b""
    while len(data) < size:
        data += os.read(reader, size - len(data))
    return data


def names(reader: int, count: int) -> list[str]:
    """Read a number of lines of SIZE bytes; return their names."""
    lines = read(reader, count * SIZE).split(b"\n")
    assert b"" == lines.pop()
    return [each.decode().rstrip(".") for each in lines]


def fault_with(log: LogWriter, words: str) -> str:
    """Wait until the writer's fault contains a text, or the test times out."""
    while words not in (fault := log.fault()):
        pass
    return fault


def test_lines_are_written_in_order() -> None:
    """Lines of both kinds are written in the order of `put`."""
    with pipe() as (reader, end):
        log = writer(end)
        for at in range(500):
            log.put(line(str(at)), is_audit=bool(at % 2))

        assert [str(at) for at in range(500)] == names(reader, 500)
        log.flush(PATIENCE_SECONDS)
        assert "" == log.fault()


@pytest.mark.guarantee("log-lines")
def test_lines_beyond_the_bound_are_lost_and_counted_by_kind() -> None:
    """Each kind has its own bound; lost lines are reported before the next line."""
    clock = Clock()
    with pipe() as (reader, end):
        filled = fill(end)
        os.set_blocking(end, True)
        log = writer(end, audit_bytes=5 * SIZE, other_bytes=2 * SIZE, now=clock)
        log.put(line("first"), is_audit=True)
        assert clock.asked.wait(PATIENCE_SECONDS)  # by the thread, which writes now
        clock.now += timedelta(seconds=2)
        fault_with(log, "nothing reads them")
        clock.now = START
        for at in range(9):
            log.put(line(f"audit {at}"), is_audit=True)
        for at in range(3):
            log.put(line(f"other {at}"))
        clock.now += timedelta(seconds=2)
        stalled = log.fault()
        log.flush(0)  # waits for no reader
        lost = f"6 lines lost (5 of the audit) {SINCE}"
        assert f"{lost}; 7 lines wait {SINCE}: nothing reads them" == stalled
        read(reader, filled)
        written = names(reader, 8)
        log.flush(PATIENCE_SECONDS)
        after = log.fault()
        log.put(line("again"))
        again = names(reader, 1)
        log.flush(PATIENCE_SECONDS)

    assert ["first", "lost (6, 5)"] == written[:2]
    assert [f"audit {at}" for at in range(4)] + ["other 0", "other 1"] == written[2:]
    assert lost == after
    assert ["again"] == again


@pytest.mark.guarantee("log-lines")
def test_line_that_is_cut_is_completed() -> None:
    """A partial write is continued when the pipe has space."""
    with pipe() as (reader, end):
        filled = fill(end)
        read(reader, filled)
        log = writer(end, sleep=lambda _: None)  # a pipe that doesn't wait
        long = os.urandom(PIPE_BYTES).hex().encode()  # twice what the pipe holds
        log.put(long)
        fault_with(log, "1 lines wait")

        assert long + b"\n" == read(reader, len(long) + 1)
        log.flush(PATIENCE_SECONDS)
        assert "" == log.fault()


@pytest.mark.guarantee("log-lines")
def test_writer_without_a_reader_reports_it_and_resumes(tmp_path: Path) -> None:
    """Lines wait for a reader, and the fault says why."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    end = os.open(path, os.O_WRONLY)
    os.close(reader)
    log = writer(end, sleep=lambda _: None)
    for at in range(3):
        log.put(line(str(at)), is_audit=True)
    fault = fault_with(log, "3 lines wait")
    reader = os.open(path, os.O_RDONLY)
    written = names(reader, 3)
    log.flush(PATIENCE_SECONDS)
    os.close(reader)
    os.close(end)

    assert fault.startswith("0 lines lost (0 of the audit); 3 lines wait since ")
    assert fault.endswith(": Broken pipe")
    assert ["0", "1", "2"] == written
    assert "" == log.fault()
