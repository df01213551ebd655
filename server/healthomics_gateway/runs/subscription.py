"""One watch of a run: it returns the states that its caller hasn't seen yet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Self

from healthomics.v1.run_pb2 import RunStatus
from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.runs.watch_state import TERMINAL

if TYPE_CHECKING:
    from healthomics.v1.run_pb2 import Run
    from healthomics_gateway.runs.field_mask import Selection
    from healthomics_gateway.runs.poller import Poller
    from healthomics_gateway.runs.source import Answer, UpstreamInfo
    from healthomics_gateway.telemetry.spans import Origin

HEARTBEAT = b""  # a response without a run, encoded


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionOptions:
    """What a subscription to a run selects, and its limits."""

    selection: Callable[[], Selection]  # called for each state
    name: str = ""  # of its caller, whose turns polls may take
    uuid: str = ""  # of the run that the caller has seen, if any
    period_seconds: float | None = None  # between polls, instead of the usual time
    seconds: float = inf  # until `next` raises TimeoutError
    # Without a response, until `next` returns a heartbeat.
    heartbeat_seconds: float | None = None
    # Raises an error for a run that the caller may not see.
    check: Callable[[Run], None] = lambda _: None


class Subscription:
    """A subscriber of a poller, while it is entered; there can be thousands."""

    __slots__ = (
        *("_alarm", "_changed_at", "_digest", "_find_poller", "_first", "_is_done"),
        *("_is_late", "_is_silent", "_poller", "_options", "_timer", "_uuid"),
        *("name", "origin", "period_seconds", "since", "status", "taken"),
    )
    _poller: Poller

    def __init__(
        self,
        find_poller: Callable[[], Poller],
        options: SubscriptionOptions,
        *,
        since: float,
        first: Answer | None,
    ) -> None:
        """Subscribe to what `find_poller` returns, from states read at `since` on.

        `first` is an answer that was read just now.
        """
        self._find_poller = find_poller
        self._options = options
        self._first = first
        self.name = options.name
        self._uuid = options.uuid
        self.period_seconds = options.period_seconds
        self.since = since
        self.taken: int | None = None  # the number of the last state that it has taken
        self.status = RunStatus.RUN_STATUS_UNSPECIFIED  # of the run in that state
        self.origin: Origin | None = None  # of that state
        self._digest = b""  # of the view that it returned last
        # When a read saw the change that it returned last, until that is delivered.
        self._changed_at: float | None = None
        self._is_done = False  # the run has ended
        self._is_late = False  # the watch's time is over
        self._is_silent = False  # a heartbeat is due
        self._alarm: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        """Join the poller; the first subscriber starts the polls."""
        if self._options.seconds < inf:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._options.seconds, self._expire)
        self._poller = self._find_poller()
        self._poller.join(self)
        if self._first:
            self._poller.learn(self._first)
            self._first = None
        return self

    def __exit__(self, *_exc: object) -> None:
        """Leave the poller; the last subscriber ends the polls."""
        self._poller.leave(self)
        if self._timer:
            self._timer.cancel()

    @property
    def upstream(self) -> UpstreamInfo:
        """The attempts of the last poll."""
        return self._poller.upstream

    def run(self) -> Run | None:
        """Return the run as it was read last, if `next` has returned a state."""
        return None if self.taken is None else self._poller.run

    async def next(self) -> bytes | None:
        """Return the next encoded response, or `None` when the run has ended.

        It is a state that looks different to the caller, or a heartbeat. Raises
        TimeoutError when the watch's time is over, and otherwise the error that ends
        the watch. The response before counts as delivered.
        """
        if self._changed_at is not None:
            self._poller.note_delivery(self._changed_at)
            self._changed_at = None
        heartbeat_seconds = self._options.heartbeat_seconds
        if heartbeat_seconds is None:
            return await self._next()
        self._is_silent = False
        loop = asyncio.get_running_loop()
        timer = loop.call_later(heartbeat_seconds, self._on_silence)
        try:
            return await self._next()
        finally:
            timer.cancel()

    async def _next(self) -> bytes | None:
        while not self._is_done:
            if self._is_late:
                raise TimeoutError
            state = self._poller.state_for(self)
            if state:
                self.taken, self.origin = state.number, state.origin
                self.status = state.run.status
                self._check(state.run)
                self._is_done = state.run.status in TERMINAL
                select = self._options.selection
                body, digest = await self._poller.encoder.view(state, select)
                self._options.check(state.run)  # the rules may have changed meanwhile
                if digest != self._digest:
                    if self._digest:  # the first state is no change
                        self._changed_at = state.read_at
                    self._digest = digest
                    return body
            elif self._poller.failure:
                raise self._poller.failure.with_traceback(None)
            elif self._is_silent:
                return HEARTBEAT
            else:
                await self._wait_until_woken()
        return None

    def _check(self, run: Run) -> None:
        """Raise an error if the caller may not see the run, or if it is another run."""
        self._options.check(run)
        if self._uuid and run.uuid and run.uuid != self._uuid:
            raise GatewayError(Reason.RUN_REPLACED)  # HealthOmics reuses ids
        self._uuid = self._uuid or run.uuid

    def wake(self) -> None:
        """Look for a new state, or for the failure of the poller."""
        if self._alarm and not self._alarm.done():
            self._alarm.set_result(None)

    def _expire(self) -> None:
        self._is_late = True
        self.wake()

    def _on_silence(self) -> None:
        self._is_silent = True
        self.wake()

    async def _wait_until_woken(self) -> None:
        self._alarm = asyncio.get_running_loop().create_future()
        try:
            await self._alarm
        finally:
            self._alarm = None
