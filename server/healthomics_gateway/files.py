"""Reads the files that settings and flags name, each with a bound on its size."""

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
    """A file isn't read; the argument says why and never holds the path.

    The path may be a key that was pasted instead.
    """


def read_regular(path: Path) -> bytes:
    """Return what a regular file, or a link to one, holds; raises FileError.

    For files that are read anew while the gateway runs.
    """
    try:
        with _opened(path) as number:
            is_regular = stat.S_ISREG(os.fstat(number).st_mode)
            content = _content(number, PIPE_SECONDS) if is_regular else b""
    except FileError:
        raise
    except (OSError, ValueError):  # ValueError if the path holds a NUL
        raise FileError("no file of this path can be read") from None
    if not is_regular:
        raise FileError(NOT_REGULAR)
    return content


def read_once(path: Path, *, pipe_seconds: float = PIPE_SECONDS) -> bytes:
    """Return what a file of any kind holds, a pipe too (`--config <(...)`).

    Raises OSError if it can't be read, and FileError if it is too large, or if nothing
    comes from a pipe for `pipe_seconds`.
    """
    with _opened(path) as number:
        is_pipe = stat.S_ISFIFO(os.fstat(number).st_mode)
        # A FIFO has a path, so that its writer may come later. That of `<(...)` has
        # none: the command that writes to it has been started, or has ended.
        is_fifo = is_pipe and path.resolve().exists()
        content = _content(number, pipe_seconds, awaits_writer=is_fifo)
        if is_pipe and not content:
            # The command that should have written to it may have failed.
            raise FileError("nothing could be read from this pipe")
        return content


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    # Without O_NONBLOCK a FIFO that nothing writes to would be waited for.
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        yield number
    finally:
        os.close(number)


def _content(number: int, pipe_seconds: float, *, awaits_writer: bool = False) -> bytes:
    """Return all bytes up to the end of file; raises FileError.

    With `awaits_writer` it waits for a first writer.
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
                raise FileError(f"nothing came from it for {pipe_seconds:g} s")
        else:
            return bytes(content)
        awaits_writer = False
    raise FileError(TOO_LARGE)


def _read(number: int) -> bytes | None:
    """Return the next bytes, none at the end, None if a writer may write more."""
    try:
        return os.read(number, CHUNK_BYTES)
    except BlockingIOError:
        return None
