"""Runs the steps one after the other, each within its time limit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass

from healthomics_gateway.check.found import Found
from healthomics_gateway.check.step import Result, Step, failed, skipped


@dataclass(frozen=True, slots=True)
class Ended:
    """A step that has ended, and how long it took."""

    step: Step
    result: Result
    seconds: float


async def run_steps(
    steps: Sequence[Step],
    found: Found,
    *,
    total_seconds: float,
    began: Callable[[Step], object] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncGenerator[Ended, None]:
    """Run the steps; yield each when it has ended. `began` is called at each start.

    A step whose needs aren't met is skipped, and all steps after `total_seconds`.
    """
    by_name: dict[str, Result] = {}
    titles = {step.name: step.title for step in steps}
    until = clock() + total_seconds
    for step in steps:
        began(step)
        start = clock()
        lacking = [titles[name] for name in step.needs if not by_name[name].is_usable]
        if lacking:
            result = skipped(f"needs {', '.join(lacking)}", is_usable=False)
        elif start >= until:
            why = f"the check has a limit of {total_seconds:g} s"
            result = skipped(why, is_usable=False)
        else:
            result = await _within(min(step.seconds, until - start), step, found)
        by_name[step.name] = result
        yield Ended(step, result, clock() - start)


async def _within(seconds: float, step: Step, found: Found) -> Result:
    try:
        async with asyncio.timeout(seconds):
            return await step.run(found)
    except TimeoutError:
        return failed(
            f"no result within {seconds:.0f} s; look for a file system, a program or a"
            " server that doesn't answer"
        )
    except Exception as error:  # noqa: BLE001  # the other steps are run all the same
        return failed(f"the check itself failed ({type(error).__name__}); report this")
