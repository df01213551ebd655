"""The bulkhead: a limit on the requests under way, for all AWS accounts together."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Protocol

from healthomics_gateway.errors.exceptions import NotAskedError
from healthomics_gateway.errors.reasons import Reason

NEWEST_SHARE = 0.1  # weight of the newest time in the average time of a request


class Queue(Protocol):
    """The calls of one account that wait for their turn."""

    @property
    def waiting(self) -> int:
        """The number of calls that wait."""
        ...

    def grant_one(self) -> None:
        """Grant one turn, then register for the next free place if more calls wait."""
        ...


class Bulkhead:
    """A number of places; when all are taken, accounts get the next ones in turn.

    No queue waits while a place is free.
    """

    def __init__(
        self, number: float, *, jitter: Callable[[], float] = random.random
    ) -> None:
        """Create `number` places, which may be `inf`; `jitter` draws from [0, 1)."""
        self._number = number
        self._jitter = jitter
        self.free = number
        self._held_seconds = 0.0  # on average; 0 until a place has been released
        self._queues: dict[Queue, None] = {}  # that wait for a place, in this order

    def take(self) -> None:
        """Take a place that is free."""
        self.free -= 1

    def release(self, held_seconds: float) -> None:
        """Free a place that was held for so long; the next queue may take it."""
        share = NEWEST_SHARE if self._held_seconds else 1.0
        self._held_seconds += share * (held_seconds - self._held_seconds)
        self.restore()

    def restore(self) -> None:
        """Free a place that wasn't used; the next queue may take it."""
        self.free += 1
        while self.free and self._queues:
            queue = next(iter(self._queues))
            del self._queues[queue]
            queue.grant_one()

    def wait_for(self, queue: Queue) -> None:
        """Call the queue's `grant_one` when a place is free and the queue is next."""
        self._queues.setdefault(queue)

    def wait_seconds(self, turns: float, queue: Queue) -> float:
        """Return the estimated seconds until a queue gets `turns` more places."""
        others = sum(
            min(each.waiting, turns) for each in self._queues if each is not queue
        )
        return max(0.0, turns + others - self.free) * self.seconds_each

    @property
    def seconds_each(self) -> float:
        """The average time between two places that become free, when all are taken."""
        return self._held_seconds / self._number

    def refusal(self, wait_seconds: float) -> NotAskedError:
        """Create the error of a call that gets no place in time.

        The wait has jitter, so that callers don't all retry at once.
        """
        wait = wait_seconds * (0.5 + self._jitter())
        return NotAskedError(Reason.GATEWAY_OVERLOADED, retry_delay_seconds=wait)
