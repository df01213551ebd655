"""How requests for the status page share the work."""

from __future__ import annotations

import asyncio
import threading

from healthomics_gateway.app.statusz.rendering import FORMATS, Rendering
from healthomics_gateway.app.statusz.shape import Snapshot
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
    assert {threading.current_thread().name} == set(taken)  # that of the event loop
