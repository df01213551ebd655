"""The restarts of background tasks, on a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from structlog.testing import capture_logs

from healthomics_gateway.background import Background

PATIENCE_SECONDS = 5.0  # for what must happen soon


class Clock:
    """A clock that only sleeping moves, and the sleeps."""

    def __init__(self, background: Callable[[], Background]) -> None:
        """Begin at 0."""
        self._background = background
        self.now = 0.0
        self.slept: list[float] = []
        self.faults: list[str] = []  # at each sleep

    async def sleep(self, seconds: float) -> None:
        """Move the clock at once."""
        self.slept.append(seconds)
        self.faults.append(self._background().fault("work"))
        self.now += seconds


async def run(*steps: Callable[[Clock], Awaitable[None]]) -> tuple[Clock, Background]:
    """Supervise work that takes one step in each of its runs, until all are taken."""
    clock = Clock(lambda: background)
    background = Background(clock=lambda: clock.now, sleep=clock.sleep)
    done = asyncio.Event()
    left = iter(steps)

    async def work() -> None:
        step = next(left, None)
        if step:
            await step(clock)
        done.set()
        await asyncio.Future()

    background.start("work", work)
    await asyncio.wait_for(done.wait(), PATIENCE_SECONDS)
    fault = background.fault("work")
    await background.stop()
    assert "" == fault
    return clock, background


async def fail(_clock: Clock) -> None:
    """Raise an error."""
    raise OSError("full")


async def be_cancelled_by_another(_clock: Clock) -> None:
    """Raise CancelledError, as if something that it awaits was cancelled."""
    other = asyncio.create_task(asyncio.sleep(60))
    other.cancel()
    await other


async def fail_after_a_minute(clock: Clock) -> None:
    """Run for a minute, then raise an error."""
    clock.now += 60
    raise OSError("full")


@pytest.mark.guarantee("background-tasks")
async def test_failed_task_is_restarted_with_back_off() -> None:
    """The pause is 1 s at first, and doubles up to a minute."""
    clock, _ = await run(*[fail] * 8)

    assert [1, 2, 4, 8, 16, 32, 60, 60] == clock.slept


async def test_task_that_ran_for_a_minute_is_restarted_soon() -> None:
    """After a run of a minute the pause is 1 s again."""
    clock, _ = await run(fail, fail, fail_after_a_minute, fail)

    assert [1, 2, 1, 2] == clock.slept


@pytest.mark.guarantee("background-tasks")
async def test_task_that_waits_for_its_restart_has_a_fault() -> None:
    """Until it runs again, its fault names the error, which is logged too."""
    with capture_logs() as events:
        clock, _ = await run(fail, be_cancelled_by_another)

    assert [
        "its task failed with OSError and will be restarted",
        "its task failed with CancelledError and will be restarted",
    ] == clock.faults
    assert [("background_task_ended", "error", "work")] * 2 == [
        (each["event"], each["log_level"], each["task"]) for each in events
    ]


async def test_task_that_returns_is_not_restarted() -> None:
    """A task that returns isn't run again and has no fault."""
    background = Background(sleep=lambda _: asyncio.sleep(0))
    runs = 0

    async def work() -> None:
        nonlocal runs
        runs += 1

    background.start("work", work)
    for _ in range(20):
        await asyncio.sleep(0)
    await background.stop()

    assert (1, "") == (runs, background.fault("work"))


async def test_stop_cancels_a_running_task() -> None:
    """A running task is cancelled once, and waited for."""
    background = Background()
    begun, ended = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Future()
        finally:
            ended.set()

    background.start("work", work)
    await begun.wait()
    await background.stop()

    assert ended.is_set()
