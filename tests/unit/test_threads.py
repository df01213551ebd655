"""Blocking work in threads: work that hangs delays nothing else."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from healthomics_gateway.net.resolver import Resolver
from healthomics_gateway.threads import AtMost, OneAtATime, in_thread

PATIENCE_SECONDS = 5.0
TURNS = 10  # of the event loop, in which what can happen has happened


async def test_work_that_hangs_uses_one_thread(tmp_path: Path) -> None:
    """All reads of a pipe without a writer share one thread, and its result."""
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


async def test_lookup_that_hangs_uses_one_thread() -> None:
    """A name is looked up once at a time, and other names beside it."""
    answers = threading.Event()

    def look_up(host: str, port: int, **_: Any) -> list[Any]:
        if host == "hangs.test":
            answers.wait(PATIENCE_SECONDS)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.2", port))]

    resolver = Resolver(look_up=look_up)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await resolver.resolve("hangs.test", 443)
    hanging = [each for each in threading.enumerate() if each.name == "names"]
    (other,) = await resolver.resolve("answers.test", 443)
    waiting = asyncio.create_task(resolver.resolve("hangs.test", 443))
    answers.set()

    assert [True] == [each.daemon for each in hanging]
    assert ("127.0.0.2", 443) == (other["host"], other["port"])
    assert ["hangs.test"] == [each["hostname"] for each in await waiting]


async def test_invalid_name_does_not_resolve() -> None:
    """A label that is too long is an error of the lookup, as any other."""
    with pytest.raises(socket.gaierror):
        await Resolver().resolve("a" * 64, 443)


async def test_later_work_has_its_own_result() -> None:
    """Work that starts when no other runs returns its own result."""
    work = OneAtATime("test")

    assert [1, 2] == [await work.run(lambda n=n: n) for n in (1, 2)]  # type: ignore[misc]  # mypy can't infer such a lambda
    with pytest.raises(ZeroDivisionError):
        await work.run(lambda: 1 / 0)
    assert 3 == await work.run(lambda: 3)


async def test_work_runs_in_its_own_thread() -> None:
    """A thread runs blocking work, and its result or exception is passed on."""
    thread = await in_thread(threading.current_thread, name="test-own")

    assert ("test-own", True) == (thread.name, thread.daemon)
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 / 0, name="test-own")


class Work:
    """Work that blocks until it is allowed to end."""

    def __init__(self, number: int) -> None:
        """Use so many threads for the work."""
        self.threads = AtMost(number, "test", begin=self._asked)
        self.asked = 0
        self.may_end = threading.Event()
        self.begun: list[int] = []
        self._begun = threading.Semaphore(0)

    async def _asked(self) -> None:
        self.asked += 1

    def begin(self, name: int) -> asyncio.Task[int]:
        """Begin work that returns its name."""

        def read() -> int:
            self.begun.append(name)
            self._begun.release()
            self.may_end.wait(PATIENCE_SECONDS)
            return name

        return asyncio.create_task(self.threads.run(read))

    async def wait(self, number: int) -> None:
        """Wait until so many more have begun, and nothing else happens."""
        for _ in range(number):
            assert await asyncio.to_thread(self._begun.acquire, timeout=5)
        for _ in range(TURNS):
            await asyncio.sleep(0)


async def ended(*tasks: asyncio.Task[Any]) -> list[Any]:
    """Wait for tasks, and ignore their results and exceptions."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.guarantee("abandoned-sessions")
async def test_number_of_threads_is_limited() -> None:
    """Further work waits, and begins in the order in which it came."""
    work = Work(2)
    tasks = [work.begin(each) for each in range(5)]
    await work.wait(2)
    begun = list(work.begun)
    work.may_end.set()

    assert [0, 1] == begun
    assert list(range(5)) == await ended(*tasks) == work.begun


@pytest.mark.guarantee("abandoned-sessions")
async def test_work_that_is_cancelled_while_it_waits_starts_no_thread() -> None:
    """The next work begins in its place."""
    work = Work(1)
    first, second, third = (work.begin(each) for each in range(3))
    await work.wait(1)
    second.cancel()
    work.may_end.set()
    results = await ended(first, second, third)

    assert (0, 2) == (results[0], results[2])
    assert [0, 2] == work.begun
    assert 2 == work.asked


async def test_thread_of_cancelled_work_counts_until_it_ends() -> None:
    """Cancellation doesn't end a thread, so the thread still counts."""
    work = Work(1)
    first, second = work.begin(0), work.begin(1)
    await work.wait(1)
    first.cancel()
    await ended(first)
    await work.wait(0)
    begun = list(work.begun)
    work.may_end.set()

    assert [0] == begun
    assert [1] == await ended(second)


async def test_exception_of_a_thread_is_raised_to_its_caller() -> None:
    """It is raised by `run`, and the thread is free for other work."""
    threads = AtMost(1, "test", begin=lambda: asyncio.sleep(0))

    def fail() -> None:
        raise LookupError

    for _ in range(2):
        with pytest.raises(LookupError):
            await threads.run(fail)
