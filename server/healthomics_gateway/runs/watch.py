"""The source that shares each watched run's polls among all of its watches."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.runs.lease import Alone
from healthomics_gateway.runs.poll_failures import Failures
from healthomics_gateway.runs.poller import Poller
from healthomics_gateway.runs.subscription import Subscription, SubscriptionOptions
from healthomics_gateway.telemetry.metrics.parts import WatchMetrics

if TYPE_CHECKING:
    from healthomics_gateway.runs.lease import Leases
    from healthomics_gateway.runs.source import Answer, Call, RunQuery, RunSource


class Watches:
    """Polls each watched run once for all of its watches.

    It is a source too: an answer that it passes on postpones the next poll of the run.
    """

    def __init__(
        self,
        runs: RunSource,
        *,
        polls: RunSource,
        interval_seconds: float,
        metrics: WatchMetrics | None = None,
        leases: Leases | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Pass calls on to `runs`; poll with `polls`, every `interval_seconds`.

        With `leases`, replicas share the polls of a run.
        """
        self._runs = runs
        self._polls = polls
        self._interval_seconds = interval_seconds
        self._metrics = metrics or WatchMetrics()
        self._leases = leases or Alone()
        self._clock = clock
        self._pollers: dict[RunQuery, Poller] = {}

    async def get_run(self, query: RunQuery, *, call: Call) -> Answer:
        """Return the next source's answer; the run's watches use it too."""
        return self._learn(query, await self._runs.get_run(query, call=call))

    async def first_fetch(
        self, query: RunQuery, *, call: Call, hides: Callable[[GatewayError], bool]
    ) -> Answer:
        """Return the run by a fetch that is sent from now on, and counts as a poll.

        Failures that may pass are retried, as a poller does. Raises an error that ends
        a watch, and without retries one that `hides` accepts: the time that retries
        take would show that the run exists.
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
        options: SubscriptionOptions,
        *,
        first: Answer | None = None,
    ) -> Subscription:
        """Return a subscription to a run; it begins when it is entered.

        `first` is an answer that was read just now.
        """
        since = self._clock() - self._interval_seconds
        return Subscription(
            lambda: self._poller(query), options, since=since, first=first
        )

    def _poller(self, query: RunQuery) -> Poller:
        poller = self._pollers.get(query)
        if poller is None:
            poller = self._pollers[query] = Poller(
                query,
                self._polls,
                interval_seconds=self._interval_seconds,
                metrics=self._metrics,
                clock=self._clock,
                forget=self._forget,
                leases=self._leases,
            )
        return poller

    @property
    def pollers(self) -> int:
        """The number of runs that are watched."""
        return len(self._pollers)

    def _forget(self, poller: Poller) -> None:
        if self._pollers.get(poller.query) is poller:
            del self._pollers[poller.query]
