"""The polls of a watched run: each is one call for all callers that watch it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.runs.source import NO_ATTEMPT, Caller, UpstreamInfo
from healthomics_gateway.telemetry.spans import Span

if TYPE_CHECKING:
    from healthomics_gateway.runs.source import Answer, RunQuery, RunSource


@dataclass(slots=True, eq=False)
class Poll:
    """A call on behalf of the callers that watch its run.

    Each run that a caller watches counts as a connection of the caller.
    """

    callers: tuple[Caller, ...]
    deadline: float = inf
    is_poll: bool = True
    is_sent: bool = False
    upstream: UpstreamInfo = NO_ATTEMPT
    span: Span | None = None

    def sent(self) -> None:
        """Note that its request is about to be sent."""
        self.is_sent = True


class Polls:
    """The polls of one run, of which one at most is under way."""

    __slots__ = ("_call", "_joined", "_query", "_runs", "upstream")

    def __init__(self, runs: RunSource, query: RunQuery) -> None:
        self._runs = runs
        self._query = query
        self._call: Poll | None = None  # the poll under way
        self._joined: set[asyncio.Task[None]] = set()  # calls that share it
        self.upstream = NO_ATTEMPT  # of the last poll

    @property
    def is_waiting(self) -> bool:
        """Return whether a poll waits for its turn."""
        return self._call is not None and not self._call.is_sent

    async def poll(self, names: Iterable[str]) -> Answer:
        """Return the run, or raise GatewayError; `names` are those of the callers."""
        call = Poll(tuple(Caller(name, self._query.id) for name in names))
        self._call = call
        try:
            return await self._runs.get_run(self._query, call=call)
        finally:
            self.upstream = call.upstream
            if self._call is call:
                self._call = None

    def add_caller(self, name: str) -> None:
        """Let a poll that waits for its turn use the turn of one more caller."""
        if self.is_waiting:
            task = asyncio.create_task(self._join(name))
            self._joined.add(task)
            task.add_done_callback(self._joined.discard)

    async def _join(self, name: str) -> None:
        with suppress(GatewayError):  # the poll itself handles it
            call = Poll((Caller(name, self._query.id),))
            await self._runs.get_run(self._query, call=call)

    def leave(self) -> None:
        """End the calls that share the poll; the poll itself is cancelled."""
        self._call = None
        for task in self._joined:
            task.cancel()
