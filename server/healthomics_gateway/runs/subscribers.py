"""The subscribers of a poller: one for each watch of its run."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Protocol

WOKEN_AT_ONCE = 256


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
    """The subscribers of one poller; there can be thousands."""

    __slots__ = ("_subscribers", "names")

    def __init__(self) -> None:
        self._subscribers: dict[Subscriber, None] = {}
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

    def remove(self, subscriber: Subscriber) -> None:
        """Remove one."""
        del self._subscribers[subscriber]
        self.names -= Counter((subscriber.name,))

    def wake(self) -> None:
        """Wake them all, in batches: other calls run between two batches."""
        self._wake(tuple(self._subscribers), 0)

    def _wake(self, subscribers: tuple[Subscriber, ...], first: int) -> None:
        next_ = first + WOKEN_AT_ONCE
        for subscriber in subscribers[first:next_]:
            subscriber.wake()
        if next_ < len(subscribers):
            asyncio.get_running_loop().call_soon(self._wake, subscribers, next_)
