"""The worker processes of a supervisor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from healthomics_gateway.control import ControlError
from healthomics_gateway.workers.child import Child

REPORT_SECONDS = 60.0  # for a worker whose event loop is busy


class Children:
    """The workers by their numbers; each is replaced when it has ended."""

    def __init__(self) -> None:
        """Begin without workers."""
        self.by_number: dict[int, Child] = {}
        self.is_draining = False

    @property
    def running(self) -> Sequence[Child]:
        """Return the workers that haven't ended, in order of their numbers."""
        found = sorted(self.by_number.items())
        return [each for _, each in found if not each.ended.done()]

    async def report_of(self, number: int) -> Any:
        """Return what a worker reports about itself, or None if it can't."""
        try:
            answer = await self.by_number[number].control.ask(
                "report", seconds=REPORT_SECONDS
            )
        except ControlError:
            return None
        return answer.data
