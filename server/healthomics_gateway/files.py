"""Reads files that an operator or a user names: of a bounded size."""

from __future__ import annotations

import errno
import os
from pathlib import Path

MAX_BYTES = 1_048_576


def content_of(file: Path) -> bytes:
    """Return what a file holds.

    Raises OSError if it can't be read, and ValueError if it is larger than 1 MiB.
    """
    if "\0" in str(file):  # which Python would raise ValueError for
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    with file.open("rb") as stream:
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError("it is larger than 1 MiB")
    return content
