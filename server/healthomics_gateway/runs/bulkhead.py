"""The places of the requests under way, which all AWS accounts share."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Protocol

from healthomics_gateway.errors.exceptions import NotAskedError
from healthomics_gateway.errors.reasons import Reason

NEWEST_SHARE = 0.1  # of the newest in the average of how long a place is held


class Queue(Protocol):
    """The calls of one account that wait: what the places need to know."""

    @property
    def waiting(self) -> int:
        """How many wait."""
        ...

    def give_one(self) -> None:
        """Give one turn; ask for the next place if another call could be sent."""
        ...


class Bulkhead:
    """A number of places. If they are scarce, the accounts take turns.

    While a place is free no queue waits for one.
    """

    def __init__(
        self, number: float, *, jitter: Callable[[], float] = random.random
    ) -> None:
        """Have `number` of them, maybe infinite; `jitter` draws from [0, 1)."""
        self._number = number
        self._jitter = jitter
        self.free = number
        self._held_seconds = 0.0  # on average; 0 before anybody has left
        self._queues: dict[Queue, None] = {}  # that wait for a place, in that order

    def take(self) -> None:
        """Take a place that is free."""
        self.free -= 1

    def release(self, held_seconds: float) -> None:
        """Free a place that was held for so long, and give it to who waits."""
        share = NEWEST_SHARE if self._held_seconds else 1.0
        self._held_seconds += share * (held_seconds - self._held_seconds)
        self.restore()

    def restore(self) -> None:
        """Free a place that wasn't used, and give it to who waits."""
        self.free += 1
        while self.free and self._queues:
            queue = next(iter(self._queues))
            del self._queues[queue]
            queue.give_one()

    def wait_for(self, queue: Queue) -> None:
        """Have this queue's `give_one` called when a place is free and it is next."""
        self._queues.setdefault(queue)

    def wait_seconds(self, turns: float, queue: Queue) -> float:
        """Estimate how long it takes until so many turns of a queue have places."""
        others = sum(
            min(each.waiting, turns) for each in self._queues if each is not queue
        )
        return max(0.0, turns + others - self.free) * self.seconds_each

    @property
    def seconds_each(self) -> float:
        """How often a place becomes free, on average, when all are taken."""
        return self._held_seconds / self._number

    def refusal(self, wait_seconds: float) -> NotAskedError:
        """Create the error of a call that gets no place in time.

        The wait is spread, so that callers don't all come back at once.
        """
        wait = wait_seconds * (0.5 + self._jitter())
        return NotAskedError(Reason.GATEWAY_OVERLOADED, retry_delay_seconds=wait)
