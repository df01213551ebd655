"""A lock that keeps the lines of several processes apart in one log."""

from __future__ import annotations

import fcntl
import os
import select
from collections.abc import Iterator
from contextlib import contextmanager


class LogLock:
    """A lock that all processes share that are forked after it was created.

    It is a POSIX file lock, which belongs to a process and ends with it.
    A write to a pipe of at most PIPE_BUF bytes is atomic, so writers of short data
    don't exclude each other; one that is stopped delays only those of longer data.
    """

    def __init__(self) -> None:
        """Create the lock's file, in memory, as no directory may be writable."""
        self._file = os.memfd_create("log-lock")

    @contextmanager
    def held(self, size: int) -> Iterator[None]:
        """Hold the lock while `size` bytes are written."""
        is_long = size > select.PIPE_BUF
        fcntl.lockf(self._file, fcntl.LOCK_EX if is_long else fcntl.LOCK_SH)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)
