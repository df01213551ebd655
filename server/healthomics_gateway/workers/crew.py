"""The workers of a supervisor, as its pages see them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from healthomics_gateway.control import ControlError
from healthomics_gateway.workers.child import Child
from healthomics_gateway.workers.pages import DRAINING, NONE_SERVES, Report

REPORT_SECONDS = 1.0  # for all workers together


class Crew:
    """The workers by their numbers; each is replaced when it has ended."""

    def __init__(self) -> None:
        """Begin without workers."""
        self.children: dict[int, Child] = {}
        self.is_draining = False

    @property
    def all(self) -> Sequence[Child]:
        """Return the workers that haven't ended, in order of their numbers."""
        found = sorted(self.children.items())
        return [each for _, each in found if not each.ended.done()]

    @property
    def is_live(self) -> bool:
        """Return whether new calls can reach any of them."""
        return any(each.is_live for each in self.all)

    @property
    def why_not(self) -> str:
        """Return why none of them is ready; an empty text if one is."""
        if self.is_draining:
            return DRAINING
        if any(each.is_ready for each in self.all):
            return ""
        return next((each.why_not for each in self.all if each.why_not), NONE_SERVES)

    @property
    def lines(self) -> list[str]:
        """Return a line for each worker: its number, and `ok` or what is wrong."""
        return [
            f"worker {each.number}: {_state_of(each)}"
            for _, each in sorted(self.children.items())
        ]

    async def reports(self) -> Sequence[Report]:
        """Return the report of each worker that hasn't ended."""
        return await asyncio.gather(*(_report_of(each) for each in self.all))


def _state_of(child: Child) -> str:
    if child.is_ready:
        return "ok"
    if child.ended.done():
        return "it has ended, and is started again"
    if not child.is_serving:
        return "it starts"
    return DRAINING if child.is_draining else child.why_not or "not accepting"


async def _report_of(child: Child) -> Report:
    try:
        answer = await child.control.ask("report", seconds=REPORT_SECONDS)
    except ControlError:
        return Report(worker=child.number, pid=child.pid, content=None)
    return Report(worker=child.number, pid=child.pid, content=answer.data)
