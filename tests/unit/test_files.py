"""The files that settings name: which are read, and up to which size."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from healthomics_gateway.files import (
    MAX_BYTES,
    NOT_REGULAR,
    TOO_LARGE,
    FileError,
    read_once,
    read_regular,
)


@pytest.fixture(params=[read_regular, read_once])
def read(request: pytest.FixtureRequest) -> Callable[[Path], bytes]:
    """Return each function that reads files."""
    found: Callable[[Path], bytes] = request.param
    return found


def fault_of(read: Callable[[Path], bytes], path: Path) -> str:
    """Return why a file isn't read."""
    with pytest.raises(FileError) as caught:
        read(path)
    return str(caught.value)


def test_file_is_read_up_to_a_mebibyte(
    tmp_path: Path, read: Callable[[Path], bytes]
) -> None:
    """A file of exactly 1 MiB is read, one with a byte more is refused."""
    file = tmp_path / "file"
    file.write_bytes(b"x" * MAX_BYTES)
    found = read(file)
    with file.open("ab") as stream:
        stream.write(b"x")

    assert b"x" * MAX_BYTES == found
    assert TOO_LARGE == fault_of(read, file)


def test_endless_device_is_refused() -> None:
    """A device isn't a regular file, and no function reads it for ever."""
    assert NOT_REGULAR == fault_of(read_regular, Path("/dev/zero"))
    assert TOO_LARGE == fault_of(read_once, Path("/dev/zero"))


def test_pipe_is_no_regular_file(tmp_path: Path) -> None:
    """A FIFO without a writer is refused at once, as is a directory."""
    os.mkfifo(tmp_path / "fifo")

    assert NOT_REGULAR == fault_of(read_regular, tmp_path / "fifo")
    assert NOT_REGULAR == fault_of(read_regular, tmp_path)


def test_pipe_is_read_until_its_writer_closes_it(tmp_path: Path) -> None:
    """A FIFO is read until its writer closes it, or until no data comes for a time."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    faults = [impatient_fault(fifo)]  # it has no writer
    reading = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)  # for a writer to open it
    writing = os.open(fifo, os.O_WRONLY)
    os.write(writing, b"lost")
    faults.append(impatient_fault(fifo))  # its writer goes on
    os.write(writing, b"read")
    os.close(writing)
    found = read_once(fifo)
    os.close(reading)

    assert ["no data came from it for 0 s"] * 2 == faults
    assert b"read" == found


def test_writer_of_a_pipe_may_come_late(tmp_path: Path) -> None:
    """The first writer of a FIFO is waited for."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read_once, fifo)
        fifo.write_bytes(b"late")  # waits for a reader

        assert b"late" == reading.result()


def impatient_fault(fifo: Path) -> str:
    """Return why a pipe isn't read without a wait."""
    return fault_of(lambda path: read_once(path, pipe_seconds=0.0), fifo)


def test_fault_does_not_have_the_path() -> None:
    """The path may be a key that was pasted by mistake."""
    for path in ("/missing/canary", "can\0ary", "canary" * 1000):
        assert "no file can be read at this path" == fault_of(read_regular, Path(path))
