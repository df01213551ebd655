"""The source that makes one fetch for many callers (single flight)."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Collection
from math import inf
from typing import TYPE_CHECKING, Protocol

from healthomics_gateway.runs.source import NO_ATTEMPT, REFUSAL_MARGIN_SECONDS
from healthomics_gateway.runs.span_records import end_with
from healthomics_gateway.telemetry.metrics.parts import NOTHING
from healthomics_gateway.telemetry.spans import RUN_ID, Span, shared

if TYPE_CHECKING:
    from healthomics_gateway.errors.exceptions import NotAskedError
    from healthomics_gateway.runs.source import (
        Answer,
        Call,
        Caller,
        RunQuery,
        RunSource,
    )
    from healthomics_gateway.telemetry.metrics.parts import Count


class Turns(Protocol):
    """The queue in which fetches wait for their turn."""

    def expected_wait(self, query: RunQuery, call: Call) -> float:
        """Return the estimated seconds until a call would have its turn."""
        ...

    def refusal(self, query: RunQuery, wait_seconds: float) -> NotAskedError:
        """Create the error of a call that can't wait so long."""
        ...

    def is_waiting(self, query: RunQuery, call: Call) -> bool:
        """Return whether a call waits for its turn."""
        ...


class Coalescing:
    """Makes one fetch for all calls with equal queries that come before it is sent.

    Calls can't join a fetch that was sent, nor its retries: they share the next one,
    which begins when the former has ended. So each answer was read by a request that
    was sent after its call came. A fetch is cancelled when no call waits for it.
    """

    def __init__(
        self,
        runs: RunSource,
        *,
        turns: Turns,
        shared_fetches: Count = NOTHING,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Wrap `runs`; fetches wait in `turns`, deadlines are times of `clock`.

        `shared_fetches` counts the calls that join another call's fetch.
        """
        self._runs = runs
        self._turns = turns
        self._shared_fetches = shared_fetches
        self._clock = clock
        self._open: dict[RunQuery, _Fetch] = {}  # not sent yet
        self._sent: dict[RunQuery, _Fetch] = {}

    async def get_run(self, query: RunQuery, *, call: Call) -> Answer:
        """Return the answer to the next fetch that is sent."""
        fetch = self._open.get(query)
        wait = self._turns.expected_wait(query, call)
        if fetch and wait:
            wait = min(wait, self._turns.expected_wait(query, fetch))
        if self._clock() + wait > call.deadline:
            raise self._turns.refusal(query, wait)
        if fetch:
            self._shared_fetches.inc()
        else:
            fetch = self._begin(query)
        answer = fetch.join(call)
        timer = self._refuse_in_time(fetch, call, answer)
        try:
            return await answer
        finally:
            if timer:
                timer.cancel()
            if fetch.upstream.attempts:
                call.upstream = fetch.upstream
            self._leave(fetch, call)

    def _refuse_in_time(
        self, fetch: _Fetch, call: Call, answer: asyncio.Future[Answer]
    ) -> asyncio.TimerHandle | None:
        """Refuse a call shortly before its deadline if its turn hasn't come by then."""
        query = fetch.query

        def refuse() -> None:
            is_open = self._open.get(query) is fetch  # it wasn't sent
            is_waiting = is_open and self._turns.is_waiting(query, fetch)
            if is_waiting and not answer.done():
                wait = self._turns.expected_wait(query, fetch)
                answer.set_exception(self._turns.refusal(query, wait))

        left = call.deadline - REFUSAL_MARGIN_SECONDS - self._clock()
        if left == inf:
            return None
        return asyncio.get_running_loop().call_later(max(left, 0), refuse)

    def _begin(self, query: RunQuery) -> _Fetch:
        fetch = self._open[query] = _Fetch(query, close=self._close)
        fetch.task = asyncio.create_task(self._fetch(fetch, self._sent.get(query)))
        return fetch

    async def _fetch(self, fetch: _Fetch, former: _Fetch | None) -> None:
        """Fetch the run once the former fetch has ended, for all calls that wait."""
        query = fetch.query
        try:
            if former and former.task:
                await asyncio.wait((former.task,))
            answer = await self._runs.get_run(query, call=fetch)
        except Exception as error:  # noqa: BLE001  # it is raised in those calls
            self._forget(fetch)
            fetch.fail(error)
        else:
            self._forget(fetch)
            fetch.succeed(answer)

    def _leave(self, fetch: _Fetch, call: Call) -> None:
        fetch.leave(call)
        if not fetch.waiting and fetch.task and not fetch.task.done():
            self._forget(fetch, is_sent=False)
            fetch.task.add_done_callback(lambda _: self._forget(fetch))
            fetch.task.cancel()
            fetch.end_span(asyncio.CancelledError())

    def _close(self, fetch: _Fetch) -> None:
        if self._open.get(fetch.query) is fetch:
            self._sent[fetch.query] = self._open.pop(fetch.query)

    def _forget(self, fetch: _Fetch, *, is_sent: bool = True) -> None:
        for fetches in (self._open, self._sent) if is_sent else (self._open,):
            if fetches.get(fetch.query) is fetch:
                del fetches[fetch.query]


class _Fetch:
    """A call on behalf of all calls that wait for it."""

    def __init__(self, query: RunQuery, *, close: Callable[[_Fetch], None]) -> None:
        self.query = query
        self._close = close
        self.upstream = NO_ATTEMPT
        self.span: Span | None = None  # since a call that is recorded has joined
        self.waiting: dict[Call, asyncio.Future[Answer]] = {}
        self._callers: Counter[Caller] = Counter()  # the number of calls of each
        self.task: asyncio.Task[None] | None = None

    def join(self, call: Call) -> asyncio.Future[Answer]:
        """Add a call; return the future of its answer."""
        answer = self.waiting[call] = asyncio.get_running_loop().create_future()
        self._callers.update(call.callers)
        if call.span:
            self.span = shared(call.span, self.span, {RUN_ID: self.query.id})
        return answer

    def leave(self, call: Call) -> None:
        """Remove a call."""
        del self.waiting[call]
        self._callers -= Counter(call.callers)

    def succeed(self, answer: Answer) -> None:
        """Return the answer to all calls that wait."""
        self.end_span()
        for each in self.waiting.values():
            if not each.done():
                each.set_result(answer)

    def fail(self, error: Exception) -> None:
        """Raise the error in all calls that wait."""
        self.end_span(error)
        for each in self.waiting.values():
            if not each.done():
                each.set_exception(error)

    def end_span(self, error: BaseException | None = None) -> None:
        """End the fetch's span, if it has one."""
        if self.span:
            end_with(self.span, error)

    @property
    def deadline(self) -> float:
        """The latest of the deadlines of the calls that wait."""
        return max((each.deadline for each in self.waiting), default=-inf)

    @property
    def callers(self) -> Collection[Caller]:
        """The callers that wait."""
        return self._callers

    @property
    def is_poll(self) -> bool:
        """True if only watches wait."""
        return all(each.is_poll for each in self.waiting)

    def sent(self) -> None:
        """Note that its first request is about to be sent: no more calls can join."""
        self._close(self)
        for each in self.waiting:
            each.sent()
