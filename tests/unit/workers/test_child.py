"""A worker as its supervisor sees it."""

from __future__ import annotations

from healthomics_gateway.workers.child import MAX_START_MISSES, Child
from healthomics_gateway.workers.children import Children
from healthomics_gateway.workers.pings import MAX_MISSES
from healthomics_gateway.workers.zygote_link import Exit


async def test_pings_without_an_answer_in_the_start_do_not_count_later() -> None:
    """A worker that was slow to start isn't taken for one that hangs."""
    child = Child(0)
    starting = [child.ping() for _ in range(MAX_START_MISSES)]
    child.note_serving(now=1.0)
    serving = [child.ping() for _ in range(MAX_MISSES + 1)]

    assert not any(starting)
    assert [False] * MAX_MISSES + [True] == serving


async def test_workers_that_have_ended_are_left_out() -> None:
    """The others are in the order of their numbers."""
    children = Children()
    first, second, third = (Child(number) for number in range(3))
    children.by_number = {2: third, 1: second, 0: first}
    second.end(Exit(code=0))

    assert [first, third] == children.running
