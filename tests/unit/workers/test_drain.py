"""The drain of several workers, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from healthomics_gateway.workers.child import Child
from healthomics_gateway.workers.drain import drain_in_turn
from healthomics_gateway.workers.zygote_link import Exit
from testkit.virtual_time import virtually


class Draining(Child):
    """A worker that ends so many seconds after its drain has begun."""

    def __init__(self, number: int, needs_seconds: float) -> None:
        """Note when its drain begins, and for how long it may be."""
        super().__init__(number)
        self.needs_seconds = needs_seconds
        self.begun: tuple[float, float] | None = None

    def drain(self, seconds: float) -> None:
        """Begin the drain."""
        super().drain(seconds)
        loop = asyncio.get_running_loop()
        self.begun = loop.time() - 1000, seconds
        needed = min(self.needs_seconds, seconds + 1)
        loop.call_later(needed, self.end, Exit(code=0))


@pytest.mark.parametrize(
    ("needs", "begun", "ended"),
    [
        ([1, 2, 3], [(0, 30), (1, 29), (3, 27)], 6),
        ([99, 99, 99], [(0, 30), (10, 20), (20, 10)], 31),
        ([99, 1, 2], [(0, 30), (10, 20), (11, 19)], 31),
        ([], [], 0),
    ],
)
@pytest.mark.guarantee("workers-drain")
def test_workers_drain_one_after_another(
    needs: Sequence[int], begun: Sequence[tuple[int, int]], ended: int
) -> None:
    """Each begins when the one before it has ended, or at its share of the time."""

    async def drained() -> tuple[list[tuple[float, float] | None], float]:
        children = [Draining(number, each) for number, each in enumerate(needs)]
        await drain_in_turn(children, 30.0)
        return [each.begun for each in children], asyncio.get_running_loop().time()

    assert (list(begun), 1000 + ended) == virtually(drained)
