"""The standard streams of a command: closed ones are replaced, errors reported."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from healthomics_gateway.cli.usage import FAILED


@contextmanager
def standard_streams() -> Iterator[None]:
    """Flush stdout when the command has ended.

    Raises SystemExit with the exit code FAILED if that fails. The error is written to
    stderr unless the reader has closed the pipe, as `head` does.
    """
    _open_closed_streams()
    _buffer_output()
    try:
        yield
    finally:
        if is_blocked(sys.stderr):
            _discard(sys.stderr)
        try:
            sys.stdout.flush()  # fails again if an earlier write has failed
        except OSError as error:
            _report(error)
            raise SystemExit(FAILED) from None


def _open_closed_streams() -> None:
    """Open `/dev/null` in place of standard files that are closed, as by `2>&-`.

    Otherwise the next socket would get the file descriptor of stderr, and what Python
    or a library writes to stderr would be sent to a client. `/dev/null` is opened for
    reading: a write still fails, so that no output is lost without an error.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # It gets the lowest free descriptor (POSIX).
            os.open(os.devnull, os.O_RDONLY)
    sys.stdout = sys.stdout or _stream(1)
    sys.stderr = sys.stderr or _stream(2)


def _stream(number: int) -> io.TextIOWrapper:
    file = io.BufferedWriter(io.FileIO(number, "w", closefd=False))
    return io.TextIOWrapper(file, line_buffering=True)


def _buffer_output() -> None:
    """Buffer stdout, and escape the characters that its encoding lacks."""
    stream = sys.stdout
    if not isinstance(stream, io.TextIOWrapper):
        return
    is_own = stream is sys.__stdout__  # False if a test has replaced it
    if is_own and isinstance(stream.buffer, io.RawIOBase):  # as with PYTHONUNBUFFERED
        sys.stdout = stream = _stream(1)
    # The name of a run may have characters that the encoding of the terminal lacks.
    stream.reconfigure(errors="backslashreplace")


def is_blocked(stream: TextIO) -> bool:
    """Return whether the buffered output can't be written."""
    try:
        stream.flush()
    except OSError:
        return True
    return False


def _discard(stream: TextIO) -> None:
    """Discard what can't be written; Python would try again, and exit with 120."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _report(error: OSError) -> None:
    _discard(sys.stdout)
    if not isinstance(error, BrokenPipeError):
        print_error(f"standard output: {error.strerror}")


def print_error(line: str) -> None:
    """Write a line to stderr; ignore a failure, as the exit code shows one too."""
    with suppress(OSError):
        print(f"healthomics-gateway: {line}", file=sys.stderr)
