"""How requests for the status page share the work."""

from __future__ import annotations

import asyncio
import threading

from healthomics_gateway.app.statusz.rendering import (
    FORMATS,
    KEPT_SECONDS,
    Rendering,
)
from healthomics_gateway.app.statusz.shape import Snapshot
from testkit.clocks import MonotonicClock
from testkit.snapshots import at_rest


async def test_requests_that_come_together_share_a_page() -> None:
    """While a page is rendered, further requests wait for it."""
    taken: list[str] = []

    async def take() -> Snapshot:
        taken.append(threading.current_thread().name)
        return at_rest()

    rendering = Rendering(take)
    for name, (kind, _) in FORMATS.items():
        pages = await asyncio.gather(*(rendering.page(name) for _ in range(8)))
        assert 1 == len({id(body) for body, _ in pages})
        assert {kind} == {each for _, each in pages}
    assert [threading.current_thread().name] * len(FORMATS) == taken  # the loop's


async def test_page_is_kept_for_a_second() -> None:
    """Requests in a loop take and render the state once a second in each format."""
    clock = MonotonicClock(7.0)
    taken: list[float] = []

    async def take() -> Snapshot:
        taken.append(clock.now)
        return at_rest()

    rendering = Rendering(take, clock=clock)
    pages = []
    for seconds in (0.0, 0.0, KEPT_SECONDS / 2, KEPT_SECONDS / 2):
        clock.now += seconds
        pages.append((await rendering.page("html"))[0])
    await rendering.page("json")

    assert [7.0, 8.0, 8.0] == taken
    assert pages[0] is pages[1] is pages[2] is not pages[3]
