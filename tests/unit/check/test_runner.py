"""The order of the steps, their needs and their time limits."""

from __future__ import annotations

import asyncio

from healthomics_gateway.auth.keyring import READ_SECONDS
from healthomics_gateway.check.found import Found
from healthomics_gateway.check.runner import Ended, run_steps
from healthomics_gateway.check.step import Result, Run, Status, Step, failed, ok
from healthomics_gateway.check.step import skipped as skipping
from healthomics_gateway.check.steps import STEPS
from healthomics_gateway.files import PIPE_SECONDS
from healthomics_gateway.upstream.credentials import WAIT_SECONDS
from testkit.clocks import MonotonicClock


def step(name: str, run: Run, *needs: str, seconds: float = 10) -> Step:
    """Return a step whose title is its name in capitals."""
    return Step(name=name, title=name.upper(), run=run, seconds=seconds, needs=needs)


def ending(result: Result) -> Run:
    """Return a step's function that has this result."""

    async def run(_found: Found) -> Result:
        return result

    return run


async def outcome(
    *steps: Step, total_seconds: float = 60, **options: object
) -> list[Ended]:
    """Run the steps and return them in the order of their ends."""
    found = Found(environ={}, log_file=-1)
    ran = run_steps(steps, found, total_seconds=total_seconds, **options)  # type: ignore[arg-type]
    return [each async for each in ran]


def test_limit_of_a_step_leaves_time_for_that_of_what_it_reads() -> None:
    """So the step reports why nothing was read."""
    limits = {each.name: each.seconds for each in STEPS}

    assert limits["settings"] > PIPE_SECONDS
    assert limits["credentials"] > WAIT_SECONDS
    assert limits["jwks"] > READ_SECONDS


async def test_steps_run_in_order_and_are_announced() -> None:
    """Each start is announced before the step, and its time is measured."""
    clock, began = MonotonicClock(), []

    async def slow(_found: Found) -> Result:
        clock.now += 3
        return ok("done")

    ended = await outcome(
        step("a", slow), step("b", ending(ok(""))), began=began.append, clock=clock
    )

    assert ["a", "b"] == [each.name for each in began]
    assert [("a", 3.0), ("b", 0.0)] == [(e.step.name, e.seconds) for e in ended]


async def test_step_is_skipped_if_a_need_is_not_met() -> None:
    """All needs that aren't met are named, and what needs a skipped step is skipped."""
    ended = await outcome(
        step("a", ending(failed("broken"))),
        step("b", ending(failed("half", is_usable=True))),
        step("c", ending(ok("")), "a", "b"),
        step("d", ending(ok("")), "b"),
        step("e", ending(ok("")), "a", "c"),
        step("f", ending(skipping("unneeded"))),
        step("g", ending(ok("")), "f"),
    )
    results = {each.step.name: each.result for each in ended}

    assert ("needs A", "needs A, C") == (results["c"].detail, results["e"].detail)
    assert [Status.OK] * 2 == [results[name].status for name in "dg"]


async def test_step_that_hangs_fails_and_the_next_one_runs() -> None:
    """The time limit of a step ends it."""
    hanging: list[asyncio.Event] = []

    async def hang(_found: Found) -> Result:
        hanging.append(asyncio.Event())
        await hanging[0].wait()
        raise AssertionError

    first, second = await outcome(
        step("a", hang, seconds=0.01), step("b", ending(ok("")))
    )

    assert first.result.problems[0].startswith("no result within 0 s; look for")
    assert Status.OK is second.result.status


async def test_steps_after_the_limit_of_all_are_skipped() -> None:
    """They say what the limit is."""
    clock = MonotonicClock()

    async def slow(_found: Found) -> Result:
        clock.now += 61
        return ok("late")

    _, late = await outcome(step("a", slow), step("b", ending(ok(""))), clock=clock)

    assert Status.SKIPPED is late.result.status
    assert "the check has a limit of 60 s" == late.result.detail


async def test_step_with_a_bug_fails_without_a_traceback() -> None:
    """The class of the exception is named, and not its text."""

    async def buggy(_found: Found) -> Result:
        raise LookupError("secret")

    (ended,) = await outcome(step("a", buggy))

    assert ("the check itself failed (LookupError); report this",) == (
        ended.result.problems
    )


def test_table_names_each_step_once_after_its_needs() -> None:
    """A step needs only earlier ones."""
    names = [each.name for each in STEPS]

    assert len(set(names)) == len(names)
    for at, each in enumerate(STEPS):
        assert set(each.needs) <= set(names[:at])
