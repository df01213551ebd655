"""The subscribers of a poller: one for each watch of its run."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from math import inf
from typing import Protocol

from healthomics.v1.run_pb2 import RunStatus

WOKEN_AT_ONCE = 256
# A run stays in these for minutes only, so it is polled more often.
PASSING = frozenset({RunStatus.RUN_STATUS_STARTING, RunStatus.RUN_STATUS_STOPPING})
PASSING_SHARE = 0.5  # of the usual period


class Subscriber(Protocol):
    """The interface of a watch to its poller."""

    name: str  # of its caller, whose turn a poll may take
    since: float  # its first state must have been read then, or later
    taken: int | None  # the number of the last state that it has taken
    period_seconds: float | None  # between polls; `None` for the usual one

    def wake(self) -> None:
        """Look for a new state, or for the failure of the poller."""
        ...


class Subscribers:
    """The subscribers of one poller, of which there can be thousands."""

    __slots__ = (
        *("_interval_seconds", "_subscribers", "_usual_seconds"),
        *("names", "period_seconds"),
    )

    def __init__(self, interval_seconds: float) -> None:
        self._interval_seconds = interval_seconds
        self._usual_seconds = interval_seconds  # in the run's present status
        self._subscribers: dict[Subscriber, None] = {}
        self.period_seconds = inf  # the shortest that one wants
        self.names: Counter[str] = Counter()  # of their callers

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._subscribers)

    def __iter__(self) -> Iterator[Subscriber]:
        """Return an iterator in the order in which they came."""
        return iter(self._subscribers)

    def add(self, subscriber: Subscriber) -> None:
        """Add one."""
        self._subscribers[subscriber] = None
        self.names[subscriber.name] += 1
        self.period_seconds = min(self.period_seconds, self._period_of(subscriber))

    def remove(self, subscriber: Subscriber) -> None:
        """Remove one."""
        del self._subscribers[subscriber]
        self.names -= Counter((subscriber.name,))

    def use_status(self, status: RunStatus.ValueType) -> None:
        """Determine the shortest period again, as the run has this status."""
        share = PASSING_SHARE if status in PASSING else 1.0
        self._usual_seconds = self._interval_seconds * share
        self.period_seconds = min(map(self._period_of, self), default=inf)

    def wanted_seconds(self, answered_at: float) -> float:
        """Return the period, or a usual one if a first state is waited for.

        That is so if a subscriber has no state and can't use one of `answered_at`.
        """
        if any(each.taken is None and answered_at < each.since for each in self):
            return min(self.period_seconds, self._interval_seconds)
        return self.period_seconds

    def _period_of(self, subscriber: Subscriber) -> float:
        if subscriber.period_seconds is not None:
            return subscriber.period_seconds
        return self._usual_seconds

    def wake(self) -> None:
        """Wake them all, in batches: other calls run between two batches."""
        self._wake(tuple(self._subscribers), 0)

    def _wake(self, subscribers: tuple[Subscriber, ...], first: int) -> None:
        next_ = first + WOKEN_AT_ONCE
        for subscriber in subscribers[first:next_]:
            subscriber.wake()
        if next_ < len(subscribers):
            asyncio.get_running_loop().call_soon(self._wake, subscribers, next_)
