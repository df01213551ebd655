"""A command's standard streams: closed ones are replaced, failed writes reported."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

FAILED = 1


@contextmanager
def standard_streams() -> Iterator[None]:
    """Write out at the end what a command has printed.

    Raises SystemExit with the code of a failure if it can't be written: without a word
    if the reader has left, as `head` does, else with one line on stderr.
    """
    _open_closed_streams()
    _buffer_output()
    try:
        yield
    finally:
        try:
            sys.stdout.flush()  # what an earlier write has left fails again
        except OSError as error:
            _report(error)
            raise SystemExit(FAILED) from None


def _open_closed_streams() -> None:
    """Open `/dev/null` in place of standard files that are closed, as by `2>&-`.

    Otherwise the next socket gets the number of stderr, and what a library or Python
    itself writes to stderr is sent to a client. They are opened for reading: a write
    fails as before, so that no answer and no line of the log is lost without an error.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY)  # POSIX: it gets the lowest number
    sys.stdout = sys.stdout or _stream(1)
    sys.stderr = sys.stderr or _stream(2)


def _stream(number: int) -> io.TextIOWrapper:
    file = io.BufferedWriter(io.FileIO(number, "w", closefd=False))
    return io.TextIOWrapper(file, line_buffering=True)


def _buffer_output() -> None:
    """Make stdout keep what it couldn't write, and write what its encoding lacks."""
    stream = sys.stdout
    if not isinstance(stream, io.TextIOWrapper):
        return
    is_own = stream is sys.__stdout__  # and not one that a test has put in its place
    if is_own and isinstance(stream.buffer, io.RawIOBase):  # as with PYTHONUNBUFFERED
        sys.stdout = stream = _stream(1)
    # A run's name may have characters that the terminal's encoding lacks.
    stream.reconfigure(errors="backslashreplace")


def is_blocked(stream: TextIO) -> bool:
    """Return whether what was printed can't be written."""
    try:
        stream.flush()
    except OSError:
        return True
    return False


def _report(error: OSError) -> None:
    # Python writes what is left when it ends, and would complain.
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if not isinstance(error, BrokenPipeError):
        say(f"standard output: {error.strerror}")


def say(line: str) -> None:
    """Write a line to stderr; if that fails too, the exit code has to say it."""
    with suppress(OSError):
        print(f"healthomics-gateway: {line}", file=sys.stderr)
