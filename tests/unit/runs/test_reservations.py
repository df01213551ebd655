"""A replica's reserved token, and its static share, on a clock that the test sets."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from healthomics_gateway.runs.reservations import Reservations, StaticShare
from healthomics_gateway.shared.store import SETTLE_SECONDS, Rate, Reservation
from testkit.clocks import MonotonicClock

RATE = Rate(8.0, 2.0)


class Replica:
    """A replica, and the waits that its store grants."""

    id = "a"

    def __init__(self, clock: MonotonicClock, *waits: float) -> None:
        """Begin attached."""
        self.is_attached = True
        self.detached_at = clock.now
        self._waits = list(waits)

    @property
    def settled_at(self) -> float:
        """The time from which it may use its share."""
        return self.detached_at + SETTLE_SECONDS

    async def ask(self, _command: Any) -> Reservation:
        """Return the next reservation."""
        return Reservation(self._waits.pop(0), RATE.tps)


def reservations(clock: MonotonicClock, *waits: float) -> tuple[Any, Reservations]:
    """Return a replica and its reservations."""
    replica: Any = Replica(clock, *waits)
    return replica, Reservations(replica, lambda: "q", RATE, clock=clock)


async def test_token_that_was_reserved_before_a_detachment_is_not_used() -> None:
    """The store may have given its share to others meanwhile."""
    clock = MonotonicClock(100.0)
    replica, reserved = reservations(clock, 0.25)
    await reserved.reserve()
    before = reserved.left_seconds
    clock.now += 0.1
    replica.detached_at = clock.now

    assert 0.25 == before
    assert reserved.left_seconds is None


async def test_time_of_a_token_is_an_average_of_the_last_ones() -> None:
    """One token that comes sooner doesn't make all turns shorter."""
    clock = MonotonicClock(100.0)
    _, reserved = reservations(clock, 1.0, 0.5)
    for _ in range(2):
        await reserved.reserve()

    found = reserved.wait_seconds(2, rate=100.0, least=0.1)
    assert pytest.approx(0.5 + 0.85) == found


def test_replicas_that_detach_together_get_their_tokens_at_different_times() -> None:
    """Each begins with a random part of a token less."""
    clock = MonotonicClock(100.0)
    replica: Any = Replica(clock)
    rate: Any = SimpleNamespace(drawn=RATE, share=RATE)
    share = StaticShare(replica, rate, clock=clock, jitter=lambda: 0.5)
    clock.now += 60.0
    replica.detached_at = clock.now
    share.filled()
    clock.now += SETTLE_SECONDS

    assert pytest.approx(-0.5) == share.filled().tokens
