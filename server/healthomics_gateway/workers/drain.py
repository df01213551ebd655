"""Drains workers one after another, in a time for all of them together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from healthomics_gateway.workers.child import Child


async def drain_in_turn(children: Sequence[Child], seconds: float) -> None:
    """Drain the workers; each has at most what is left of `seconds` when it begins.

    A worker begins when the one before it has ended, or at the latest at its share of
    the time: the third of four after half of it. Return when all have ended.
    """
    now = asyncio.get_running_loop().time
    begun = now()
    for number, child in enumerate(children, start=1):
        child.drain(max(0.0, begun + seconds - now()))
        turn = begun + seconds * number / len(children)
        await asyncio.wait([child.ended], timeout=max(0.0, turn - now()))
    await wait_for_all(children)


async def wait_for_all(children: Sequence[Child]) -> None:
    """Return when all workers have ended."""
    if children:
        await asyncio.wait([each.ended for each in children])
