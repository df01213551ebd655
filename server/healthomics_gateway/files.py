"""Reads the files that settings and flags name, up to a size limit."""

from __future__ import annotations

import os
import select
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MAX_BYTES = 1_048_576
PIPE_SECONDS = 10.0  # for the next bytes of a pipe to come
CHUNK_BYTES = 65_536

NOT_REGULAR = "it isn't a regular file; directories, pipes and devices aren't read"
TOO_LARGE = "it is larger than 1 MiB"


class FileError(ValueError):
    """A file that isn't read; the argument is the reason, and never has the path.

    Someone may have pasted a key in place of the path.
    """


def read_regular(path: Path) -> bytes:
    """Return the content of a regular file, or of a link to one; raise FileError.

    Use it for files that are read again while the gateway runs.
    """
    try:
        with _opened(path) as number:
            is_regular = stat.S_ISREG(os.fstat(number).st_mode)
            content = _content(number, PIPE_SECONDS) if is_regular else b""
    except FileError:
        raise
    except (OSError, ValueError):  # ValueError if the path has a NUL
        raise FileError("no file can be read at this path") from None
    if not is_regular:
        raise FileError(NOT_REGULAR)
    return content


def read_once(path: Path, *, pipe_seconds: float = PIPE_SECONDS) -> bytes:
    """Return the content of a file of any kind, also of a pipe (`--config <(...)`).

    Raises OSError if it can't be read, and FileError if it is too large, or if a pipe
    has no data for `pipe_seconds`.
    """
    with _opened(path) as number:
        is_pipe = stat.S_ISFIFO(os.fstat(number).st_mode)
        # A FIFO has a path, so its writer may come later. A pipe of `<(...)` has no
        # path: the command that writes to it runs already, or has ended.
        is_fifo = is_pipe and path.resolve().exists()
        content = _content(number, pipe_seconds, awaits_writer=is_fifo)
        if is_pipe and not content:
            # The command that writes to it may have failed.
            raise FileError("nothing could be read from this pipe")
        return content


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    # Without O_NONBLOCK, opening a FIFO without a writer would block.
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        yield number
    finally:
        os.close(number)


def _content(number: int, pipe_seconds: float, *, awaits_writer: bool = False) -> bytes:
    """Return all bytes up to the end of the file; raise FileError.

    With `awaits_writer`, wait for a first writer.
    """
    poll = select.poll()
    poll.register(number, select.POLLIN)
    content = bytearray()
    while len(content) <= MAX_BYTES:
        chunk = _read(number)
        if chunk:
            content += chunk
        elif chunk is None or awaits_writer:
            if not poll.poll(pipe_seconds * 1000):
                raise FileError(f"no data came from it for {pipe_seconds:g} s")
        else:
            return bytes(content)
        awaits_writer = False
    raise FileError(TOO_LARGE)


def _read(number: int) -> bytes | None:
    """Return the next bytes, b"" at the end, or `None` if more may be written."""
    try:
        return os.read(number, CHUNK_BYTES)
    except BlockingIOError:
        return None
