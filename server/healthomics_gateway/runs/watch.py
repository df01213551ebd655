"""Those who follow a run: many readers of one poller for each run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Self

from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.runs.poll_failures import Failures
from healthomics_gateway.runs.poller import TERMINAL, Poller

if TYPE_CHECKING:
    from healthomics.v1.run_pb2 import Run
    from healthomics_gateway.runs.field_mask import Selection
    from healthomics_gateway.runs.source import (
        Answer,
        Call,
        RunQuery,
        RunSource,
        UpstreamInfo,
    )

HEARTBEAT = b""  # a response without a run, encoded


class Watches:
    """Asks for each watched run now and then, however many watch it.

    It is a source too: the answers that it passes on save the next poll.
    """

    def __init__(
        self,
        runs: RunSource,
        *,
        polls: RunSource,
        interval_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Pass calls on to `runs`; poll by `polls`, every `interval_seconds`."""
        self._runs = runs
        self._polls = polls
        self._interval_seconds = interval_seconds
        self._clock = clock
        self._pollers: dict[RunQuery, Poller] = {}

    async def get_run(self, query: RunQuery, *, call: Call) -> Answer:
        """Answer the run, and let those who watch it have the answer too."""
        return self._learn(query, await self._runs.get_run(query, call=call))

    async def look(
        self, query: RunQuery, *, call: Call, hides: Callable[[GatewayError], bool]
    ) -> Answer:
        """Return the run by a fetch that is sent from now on, and counts as a poll.

        As a watch does, it waits until what may pass has passed. Raises what ends a
        watch, and at once what `hides` accepts: a wait would show that there is a run.
        """
        failures = Failures()
        while True:
            try:
                answer = await self._polls.get_run(query, call=call)
            except GatewayError as error:
                if hides(error) or failures.is_end(error, self._clock()):
                    raise
                seconds = failures.backoff_seconds(error)
                await asyncio.sleep(seconds)  # as a poller backs off
            else:
                return self._learn(query, answer)

    def _learn(self, query: RunQuery, answer: Answer) -> Answer:
        if poller := self._pollers.get(query):
            poller.learn(answer)
        return answer

    def watch(
        self,
        query: RunQuery,
        *,
        selection: Selection,
        name: str = "",
        uuid: str = "",
        period_seconds: float | None = None,
        seconds: float = inf,
        heartbeat_seconds: float | None = None,
        first: Answer | None = None,
        allows: Callable[[Run], bool] = lambda _: True,
    ) -> Reader:
        """Give a reader to follow a run with; it lasts from when it is entered.

        After `seconds` it raises TimeoutError. `name` is its caller's, whose turns the
        polls may have, `period_seconds` its own period,
        `uuid` the identity that its caller has seen, `first` an answer that was read
        just now. With `heartbeat_seconds` it returns a heartbeat when there was
        nothing else for so long. A state that isn't allowed raises
        CALLER_NOT_AUTHORIZED.
        """
        return Reader(
            lambda: self._poller(query),
            first=first,
            allows=allows,
            selection=selection,
            name=name,
            uuid=uuid,
            period_seconds=period_seconds,
            heartbeat_seconds=heartbeat_seconds,
            since=self._clock() - self._interval_seconds,
            seconds=seconds,
        )

    def _poller(self, query: RunQuery) -> Poller:
        poller = self._pollers.get(query)
        if poller is None:
            poller = self._pollers[query] = Poller(
                query,
                self._polls,
                interval_seconds=self._interval_seconds,
                clock=self._clock,
                forget=self._forget,
            )
        return poller

    @property
    def pollers(self) -> int:
        """How many runs are watched."""
        return len(self._pollers)

    def _forget(self, poller: Poller) -> None:
        if self._pollers.get(poller.query) is poller:
            del self._pollers[poller.query]


class Reader:
    """One watch: gives what its caller hasn't seen yet. There can be thousands."""

    __slots__ = (
        *("_alarm", "_allows", "_digest", "_first", "_heartbeat_seconds", "_is_done"),
        *("_is_late", "_is_silent", "_join", "_poller", "_seconds", "_selection"),
        *("_timer", "_uuid"),
        *("name", "period_seconds", "since", "taken"),
    )
    _poller: Poller

    def __init__(
        self,
        join: Callable[[], Poller],
        *,
        first: Answer | None,
        allows: Callable[[Run], bool],
        selection: Selection,
        name: str,
        uuid: str,
        period_seconds: float | None,
        heartbeat_seconds: float | None,
        since: float,
        seconds: float,
    ) -> None:
        """Read from what `join` gives, at first a state seen at `since` or later."""
        self._join = join
        self._first = first
        self._allows = allows
        self._selection = selection
        self.name = name
        self._uuid = uuid
        self.period_seconds = period_seconds
        self._heartbeat_seconds = heartbeat_seconds
        self.since = since
        self._seconds = seconds
        self.taken: int | None = None  # the number of the last state that it has seen
        self._digest = b""  # of what it gave last
        self._is_done = False
        self._is_late = False
        self._is_silent = False  # for as long as its caller allows
        self._alarm: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        """Begin; the first who comes begins the polls."""
        if self._seconds < inf:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._seconds, self._expire)
        self._poller = self._join()
        self._poller.join(self)
        if self._first:
            self._poller.learn(self._first)
            self._first = None
        return self

    def __exit__(self, *_exc: object) -> None:
        """End; the last who leaves ends the polls."""
        self._poller.leave(self)
        if self._timer:
            self._timer.cancel()

    @property
    def upstream(self) -> UpstreamInfo:
        """What is known of the last poll."""
        return self._poller.upstream

    async def next(self) -> bytes | None:
        """Return the next encoded response, or `None` when the run has ended.

        It is a state that its caller sees a difference in, or a heartbeat. Raises
        TimeoutError when the watch's time is over, and otherwise what ends the watch.
        """
        if self._heartbeat_seconds is None:
            return await self._next()
        self._is_silent = False
        loop = asyncio.get_running_loop()
        timer = loop.call_later(self._heartbeat_seconds, self._fall_silent)
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
                self.taken = state.number
                if not self._allows(state.run):
                    raise GatewayError(Reason.CALLER_NOT_AUTHORIZED)
                self._identify(state.run)
                self._is_done = state.run.status in TERMINAL
                body, digest = await self._poller.view(state, self._selection)
                if digest != self._digest:
                    self._digest = digest
                    return body
            elif self._poller.failure:
                raise self._poller.failure.with_traceback(None)
            elif self._is_silent:
                return HEARTBEAT
            else:
                await self._woken()
        return None

    def wake(self) -> None:
        """Look again."""
        if self._alarm and not self._alarm.done():
            self._alarm.set_result(None)

    def _expire(self) -> None:
        self._is_late = True
        self.wake()

    def _fall_silent(self) -> None:
        self._is_silent = True
        self.wake()

    async def _woken(self) -> None:
        self._alarm = asyncio.get_running_loop().create_future()
        try:
            await self._alarm
        finally:
            self._alarm = None

    def _identify(self, run: Run) -> None:
        """See that it is still the same run: ids are used again."""
        if self._uuid and run.uuid and run.uuid != self._uuid:
            raise GatewayError(Reason.RUN_REPLACED)
        self._uuid = self._uuid or run.uuid
