"""The poller of a watched run: it makes one series of polls for all subscribers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING

import structlog

from healthomics.v1.run_pb2 import Run
from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.runs.poll import Polls
from healthomics_gateway.runs.poll_failures import BACKOFF_SECONDS, OWN, Failures
from healthomics_gateway.runs.subscribers import Subscribers
from healthomics_gateway.runs.watch_state import TERMINAL, Encoder, History, State

if TYPE_CHECKING:
    from healthomics_gateway.runs.lease import Leases
    from healthomics_gateway.runs.source import (
        Answer,
        RunQuery,
        RunSource,
        UpstreamInfo,
    )
    from healthomics_gateway.runs.subscribers import Subscriber
    from healthomics_gateway.telemetry.metrics.parts import WatchMetrics

_log = structlog.get_logger("poll")


class Poller:
    """Polls one run for as long as it has subscribers, or until the run has ended."""

    __slots__ = (
        *("_answer", "_clock", "_due", "_failures", "_forget", "_history"),
        *("_is_over", "_lease", "_metrics", "_polls", "_subscribers", "_task"),
        *("_timer", "answered_at", "encoder", "failure", "query"),
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
        leases: Leases,
    ) -> None:
        """Poll `polls` for `query`, while the lease of `leases` allows it.

        `forget` is called when no more polls follow.
        """
        self.query = query
        self._polls = Polls(polls, query)
        self._metrics = metrics
        self._clock = clock
        self._forget = forget
        self._subscribers = Subscribers(interval_seconds)
        self._history = History()
        self._answer: Answer | None = None  # the last
        self.answered_at = -inf  # when it was read
        self._due = inf  # when the next poll is made
        self._failures = Failures()
        self._timer: asyncio.TimerHandle | None = None  # of the next poll
        self._task: asyncio.Task[None] | None = None  # of the poll under way
        self._is_over = False
        self.encoder = Encoder()
        self._lease = leases.lease(self)
        self.failure: GatewayError | None = None  # that ends the watches

    @property
    def upstream(self) -> UpstreamInfo:
        """The attempts of the last poll."""
        return self._polls.upstream

    @property
    def run(self) -> Run | None:
        """The run as it was read last."""
        return self._answer.run if self._answer else None

    def join(self, subscriber: Subscriber) -> None:
        """Add a subscriber."""
        self._subscribers.add(subscriber)
        if self._subscribers.names[subscriber.name] == 1:
            self._polls.add_caller(subscriber.name)
        if self._failures.number:
            due = self._clock() + BACKOFF_SECONDS
        elif self.answered_at >= subscriber.since:
            due = self.answered_at + self._subscribers.period_seconds
        else:
            due = -inf
        self._schedule(min(due, self._due))

    def leave(self, subscriber: Subscriber) -> None:
        """Remove a subscriber; the polls end with the last."""
        self._subscribers.remove(subscriber)
        if not self._subscribers:
            self._end()
            self._cancel_poll()

    def state_for(self, subscriber: Subscriber) -> State | None:
        """Return the next state for a subscriber, or `None` if there is none yet.

        A subscriber that is more than `MAX_UNTAKEN` states behind gets the newest. A
        new one gets the newest too, unless it was read before `subscriber.since`.
        """
        if subscriber.taken is None and self.answered_at < subscriber.since:
            return None
        return self._history.after(subscriber.taken)

    def note_delivery(self, read_at: float) -> None:
        """Measure the delivery of a change that a read saw at `read_at`."""
        self._metrics.changes.inc()
        self._metrics.change_delay_seconds.observe(self._clock() - read_at)

    def learn(self, answer: Answer, *, age_seconds: float = 0.0) -> None:
        """Use an answer, whoever fetched it, that isn't older than the last."""
        self.answered_at = self._clock() - age_seconds
        self._failures = Failures()
        if self._polls.is_waiting:
            self._cancel_poll()  # the answer replaces it
        if answer is not self._answer:
            self._answer = answer
            self._history.add(
                answer,
                at=self.answered_at,
                taken=(each.taken for each in self._subscribers),
            )
            if answer.run.status in TERMINAL:
                self._end()
            self._subscribers.wake()
            self._subscribers.use_status(answer.run.status)
        due = self.answered_at + self._subscribers.period_seconds
        self._schedule(due + self._lease.grace_seconds)

    def hurry(self, seconds: float) -> None:
        """Claim the lease `seconds` after a poll is due: nobody else polls any more."""
        due = self.answered_at + self._wanted_seconds()
        self._schedule(min(max(due, self._clock()) + seconds, self._due))

    def _schedule(self, due: float) -> None:
        """Poll at `due`; a poll that is under way schedules the next itself."""
        self._due = due
        if self._task is None and not self._is_over:
            self._cancel_timer()
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(due - self._clock(), 0), self._begin)

    def _cancel_poll(self) -> None:
        self._polls.leave()
        if self._task:
            self._task.cancel()
            self._task = None

    def _cancel_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _begin(self) -> None:
        self._timer = None
        self._task = asyncio.create_task(self._poll_or_follow())

    async def _poll_or_follow(self) -> None:
        period_seconds = self._wanted_seconds()
        try:
            if not await self._lease.claim(period_seconds=period_seconds):
                self._task = None
                self._follow()
                return
            await self._poll()
            if period_seconds < self._subscribers.period_seconds:  # for a first state
                period_seconds = self._subscribers.period_seconds
                await self._lease.claim(period_seconds=period_seconds)
        except Exception as error:  # noqa: BLE001  # else the subscribers wait for ever
            _log.error("bug", runId=self.query.id, exc_info=error)
            self._fail(GatewayError(Reason.GATEWAY_INTERNAL))

    def _follow(self) -> None:
        now, period_seconds = self._clock(), self._wanted_seconds()
        due = self.answered_at + period_seconds + self._lease.grace_seconds
        self._schedule(due if due > now else now + period_seconds)

    async def _poll(self) -> None:
        try:
            answer = await self._polls.poll(self._subscribers.names)
            self._task = None
            self._metrics.polls_ok.inc()
            self._lease.note_poll(is_own_failure=False)
            self.learn(answer)
        except GatewayError as error:
            self._task = None
            self._metrics.polls_failed.inc()
            if self._failures.is_end(error, self._clock()):
                self._fail(error)
            else:
                self._back_off(error)

    def _wanted_seconds(self) -> float:
        return self._subscribers.wanted_seconds(self.answered_at)

    def _back_off(self, error: GatewayError) -> None:
        self._lease.note_poll(is_own_failure=error.reason in OWN)
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
        self._lease.end()
        self._forget(self)
