"""The poller of a watched run: it makes one series of polls for all subscribers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING

import structlog

from healthomics.v1.run_pb2 import Run, RunStatus
from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.runs.poll import Poll
from healthomics_gateway.runs.poll_failures import BACKOFF_SECONDS, Failures
from healthomics_gateway.runs.source import NO_ATTEMPT, Caller
from healthomics_gateway.runs.subscribers import Subscribers
from healthomics_gateway.runs.watch_state import TERMINAL, History, State, View

if TYPE_CHECKING:
    from healthomics_gateway.runs.field_mask import Selection
    from healthomics_gateway.runs.source import Answer, RunQuery, RunSource
    from healthomics_gateway.runs.subscribers import Subscriber
    from healthomics_gateway.telemetry.metrics.parts import WatchMetrics

# A run stays in these for minutes only, so it is polled more often.
PASSING = frozenset({RunStatus.RUN_STATUS_STARTING, RunStatus.RUN_STATUS_STOPPING})
PASSING_SHARE = 0.5  # of the usual period

_log = structlog.get_logger("poll")


class Poller:
    """Polls one run for as long as it has subscribers, or until the run has ended."""

    __slots__ = (
        *("_answer", "_answered_at", "_call", "_clock", "_due", "_encoding"),
        *("_failures", "_forget", "_history", "_interval_seconds", "_is_over"),
        *("_joined", "_metrics", "_period_seconds", "_polls", "_subscribers"),
        *("_task", "_timer", "failure", "query", "upstream"),
    )

    def __init__(
        self,
        query: RunQuery,
        polls: RunSource,
        *,
        interval_seconds: float,
        metrics: WatchMetrics,
        clock: Callable[[], float],
        forget: Callable[[Poller], None],
    ) -> None:
        """Poll `polls` for `query`; `forget` is called when no more polls follow."""
        self.query = query
        self._polls = polls
        self._interval_seconds = interval_seconds
        self._metrics = metrics
        self._clock = clock
        self._forget = forget
        self._subscribers = Subscribers()
        self._history = History()
        self._answer: Answer | None = None  # the last
        self._answered_at = -inf
        self._period_seconds = inf  # the shortest that a subscriber wants
        self._due = inf  # when the next poll is made
        self._failures = Failures()
        self._timer: asyncio.TimerHandle | None = None  # of the next poll
        self._task: asyncio.Task[None] | None = None  # of the poll under way
        self._call: Poll | None = None  # of the newest poll
        self._joined: set[asyncio.Task[None]] = set()  # calls that share that poll
        self._is_over = False
        self._encoding = asyncio.Lock()
        self.failure: GatewayError | None = None  # that ends the watches
        self.upstream = NO_ATTEMPT  # of the last poll

    @property
    def run(self) -> Run | None:
        """The run as it was read last."""
        return self._answer.run if self._answer else None

    def join(self, subscriber: Subscriber) -> None:
        """Add a subscriber."""
        self._subscribers.add(subscriber)
        if self._subscribers.names[subscriber.name] == 1:
            self._add_caller(subscriber.name)
        self._period_seconds = min(self._period_seconds, self._period_of(subscriber))
        if self._failures.number:
            due = self._clock() + BACKOFF_SECONDS
        elif self._answered_at >= subscriber.since:
            due = self._answered_at + self._period_seconds
        else:
            due = -inf
        self._schedule(min(due, self._due))

    def leave(self, subscriber: Subscriber) -> None:
        """Remove a subscriber; the polls end with the last."""
        self._subscribers.remove(subscriber)
        if not self._subscribers:
            self._end()
            for task in (*self._joined, *((self._task,) if self._task else ())):
                task.cancel()

    def _add_caller(self, name: str) -> None:
        """Let a poll that waits for its turn use the turn of one more caller."""
        if self._task and self._call and not self._call.is_sent:
            task = asyncio.create_task(self._join_poll(name))
            self._joined.add(task)
            task.add_done_callback(self._joined.discard)

    async def _join_poll(self, name: str) -> None:
        with suppress(GatewayError):  # the poll itself handles it
            call = Poll((Caller(name, self.query.id),))
            await self._polls.get_run(self.query, call=call)

    def state_for(self, subscriber: Subscriber) -> State | None:
        """Return the next state for a subscriber, or `None` if there is none yet.

        A subscriber that is more than `MAX_UNTAKEN` states behind gets the newest. A
        new one gets the newest too, unless it was read before `subscriber.since`.
        """
        if subscriber.taken is None and self._answered_at < subscriber.since:
            return None
        return self._history.after(subscriber.taken)

    async def view(self, state: State, selection: Callable[[], Selection]) -> View:
        """Return the view of a state through what `selection` returns in the end.

        At most one view is made in a pass of the event loop, as each subscriber may
        have a selection of its own, and other calls wait meanwhile. What is withheld
        may change while a view waits, so the selection is asked for after the wait.
        """
        if kept := state.kept(selection()):
            return kept
        await self._encoding.acquire()
        asyncio.get_running_loop().call_soon(self._encoding.release)  # in the next pass
        return state.view(selection())

    def note_delivery(self, read_at: float) -> None:
        """Measure the delivery of a change that a read saw at `read_at`."""
        self._metrics.changes.inc()
        self._metrics.change_delay_seconds.observe(self._clock() - read_at)

    def learn(self, answer: Answer) -> None:
        """Use an answer, whichever call fetched it; the same one may come again."""
        self._answered_at = self._clock()
        self._failures = Failures()
        if answer is not self._answer:
            self._answer = answer
            self._history.add(
                answer,
                at=self._answered_at,
                taken=(each.taken for each in self._subscribers),
            )
            if answer.run.status in TERMINAL:
                self._end()
            self._subscribers.wake()
            periods = map(self._period_of, self._subscribers)
            self._period_seconds = min(periods, default=inf)
        self._schedule(self._answered_at + self._period_seconds)

    def _schedule(self, due: float) -> None:
        """Poll at `due`; a poll that is under way schedules the next itself."""
        self._due = due
        if self._task is None and not self._is_over:
            self._cancel_timer()
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(due - self._clock(), 0), self._begin)

    def _cancel_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _begin(self) -> None:
        self._timer = None
        self._task = asyncio.create_task(self._poll())

    async def _poll(self) -> None:
        names = self._subscribers.names
        callers = tuple(Caller(name, self.query.id) for name in names)
        call = self._call = Poll(callers)
        try:
            answer = await self._polls.get_run(self.query, call=call)
            self._task, self.upstream = None, call.upstream
            self._metrics.polls_ok.inc()
            self.learn(answer)
        except GatewayError as error:
            self._task, self.upstream = None, call.upstream
            self._metrics.polls_failed.inc()
            if self._failures.is_end(error, self._clock()):
                self._fail(error)
            else:
                self._back_off(error)
        except Exception as error:  # noqa: BLE001  # else the subscribers wait for ever
            _log.error("bug", runId=self.query.id, exc_info=error)
            self._fail(GatewayError(Reason.GATEWAY_INTERNAL))

    def _period_of(self, subscriber: Subscriber) -> float:
        if subscriber.period_seconds is not None:
            return subscriber.period_seconds
        is_passing = self._answer and self._answer.run.status in PASSING
        return self._interval_seconds * (PASSING_SHARE if is_passing else 1.0)

    def _back_off(self, error: GatewayError) -> None:
        self._schedule(self._clock() + self._failures.backoff_seconds(error))
        _log.info(
            "poll_failed",
            runId=self.query.id,
            reason=error.reason.name,
            failures=self._failures.number,
        )

    def _fail(self, error: GatewayError) -> None:
        self.failure = error
        self._end()
        self._subscribers.wake()

    def _end(self) -> None:
        """Make no more polls; the next subscriber begins with a new poller."""
        self._is_over = True
        self._cancel_timer()
        self._forget(self)
