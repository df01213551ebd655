"""Blocking work beside the event loop: files that hang hold up nothing else."""

import asyncio
import os
import threading
from pathlib import Path

import pytest

from healthomics_gateway.threads import OneAtATime, in_thread


async def test_work_that_hangs_uses_one_thread(tmp_path: Path) -> None:
    """Reads of a pipe without a writer share one thread, however often they are tried.

    What they wait for is given to all of them when it comes.
    """
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reads = OneAtATime("test-hanging")
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await reads.run(pipe.read_bytes)
    waiting = asyncio.create_task(reads.run(pipe.read_bytes))
    await asyncio.sleep(0)
    hanging = [each for each in threading.enumerate() if each.name == "test-hanging"]

    assert 1 == len(hanging)
    assert hanging[0].daemon
    await asyncio.to_thread(pipe.write_bytes, b"late")
    assert b"late" == await waiting


async def test_work_that_has_ended_is_followed_by_other_work() -> None:
    """Each piece of work that starts when none is under way has its own result."""
    work = OneAtATime("test")

    assert [1, 2] == [await work.run(lambda n=n: n) for n in (1, 2)]  # type: ignore[misc]  # mypy can't infer such a lambda
    with pytest.raises(ZeroDivisionError):
        await work.run(lambda: 1 / 0)
    assert 3 == await work.run(lambda: 3)


async def test_work_in_a_thread_is_in_one_of_its_own() -> None:
    """A thread runs what blocks, and passes on what it returns or raises."""
    thread = await in_thread(threading.current_thread, name="test-own")

    assert ("test-own", True) == (thread.name, thread.daemon)
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 / 0, name="test-own")
