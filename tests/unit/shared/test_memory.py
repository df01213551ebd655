"""The store in memory, on a clock that the test sets."""

from __future__ import annotations

import pytest

from healthomics_gateway.shared.memory import MAX_BUCKETS, MemoryStore
from healthomics_gateway.shared.store import (
    FORGET_SECONDS,
    SETTLE_SECONDS,
    Claim,
    Permit,
    Rate,
    Stored,
)
from testkit.clocks import MonotonicClock
from testkit.local_store import LocalStore

RATE = Rate(8.0, 2.0)
SECOND = 1.0


def with_replicas(clock: MonotonicClock, *ids: str) -> MemoryStore:
    """Return a store that knows these replicas, all attached."""
    memory = MemoryStore(clock=clock)
    for each in ids:
        memory.beat(each, is_attached=True, known=1)
    return memory


def reserved(memory: MemoryStore, replica: str = "a") -> float:
    """Return the wait for the next token."""
    return memory.reserve("q", RATE, replica=replica).wait_seconds


def test_tokens_are_reserved_ahead() -> None:
    """A new quota lacks those of SETTLE_SECONDS; each is 0.125 s after another."""
    clock = MonotonicClock()
    memory = with_replicas(clock, "a")

    waits = [reserved(memory) for _ in range(2)]
    assert pytest.approx([0.925, 1.05]) == waits
    clock.now += 9.0
    assert [0.0, 0.0, 0.125] == [reserved(memory) for _ in range(3)]


def test_wait_is_bounded_by_the_replicas() -> None:
    """Each has one token in advance, and a new quota settles, but not much more."""
    memory = with_replicas(MonotonicClock(), "a", "b")
    waits = [reserved(memory) for _ in range(100)]

    assert (RATE.burst + 4 * 2) / RATE.tps + SETTLE_SECONDS == max(waits)


def test_throttle_slows_all_replicas() -> None:
    """The tokens that had been saved are lost."""
    clock = MonotonicClock()
    memory = with_replicas(clock, "a", "b")
    reserved(memory)
    clock.now += 9.0
    memory.cut("q", RATE)
    for each in ("a", "b"):
        memory.beat(each, is_attached=True, known=1)
    first = memory.reserve("q", RATE, replica="a")
    second = memory.reserve("q", RATE, replica="b")

    assert pytest.approx(5.6) == first.tps == second.tps
    assert pytest.approx(2 / 5.6) == second.wait_seconds


def test_wiped_store_expects_as_many_as_the_replicas_knew() -> None:
    """So that the first that comes back doesn't get the share of all."""
    clock = MonotonicClock()
    memory = MemoryStore(clock=clock)
    first = memory.beat("a", is_attached=True, known=4)
    clock.now += FORGET_SECONDS - SECOND
    memory.beat("a", is_attached=True, known=4)
    tps = memory.reserve("q", RATE, replica="a").tps
    clock.now += SECOND

    assert 4 == first.expected
    assert RATE.tps / 4 == tps
    assert 1 == memory.beat("a", is_attached=True, known=4).expected


def test_callers_tokens_are_taken_in_batches() -> None:
    """A bucket that isn't known is full."""
    clock = MonotonicClock()
    memory = MemoryStore(clock=clock)

    assert Permit(2, 0.0) == memory.take("c", RATE, wanted=5)
    assert Permit(0, 0.125) == memory.take("c", RATE, wanted=5)
    clock.now += 0.125
    assert Permit(1, 0.0) == memory.take("c", RATE, wanted=5)


def test_buckets_are_bounded() -> None:
    """Those that were used longest ago are forgotten."""
    memory = MemoryStore(clock=MonotonicClock())
    for number in range(MAX_BUCKETS):
        memory.take(f"{number}", RATE, wanted=2)
    memory.take("0", RATE, wanted=1)
    memory.take("new", RATE, wanted=2)

    for known in ("0", "new"):
        assert Permit(0, 0.125) == memory.take(known, RATE, wanted=1)
    assert Permit(1, 0.0) == memory.take("1", RATE, wanted=1)


def test_counts_of_living_replicas_are_limited_together() -> None:
    """A dead one's don't count; fewer are always possible."""
    clock = MonotonicClock()
    memory = with_replicas(clock, "a", "b")

    assert memory.count("c", 3, replica="a", limit=5)
    assert not memory.count("c", 3, replica="b", limit=5)
    assert memory.count("c", 2, replica="b", limit=5)
    assert memory.count("c", 9, replica="b", limit=None)
    assert memory.count("c", 0, replica="b", limit=5)
    clock.now += 3.0
    memory.beat("b", is_attached=True, known=1)
    assert memory.count("c", 5, replica="b", limit=5)


def test_replica_that_has_left_has_no_counts() -> None:
    """They are forgotten with it, and not kept until it comes back."""
    memory = with_replicas(MonotonicClock(), "a", "b")
    memory.count("c", 3, replica="a", limit=None)
    memory.leave("a")
    memory.beat("a", is_attached=True, known=1)

    assert memory.count("c", 5, replica="b", limit=5)


async def test_values_are_delivered_and_expire() -> None:
    """The age is that of the value when it was written, and the time since."""
    clock = MonotonicClock()
    store = LocalStore(MemoryStore(clock=clock))
    got: list[tuple[str, bytes]] = []
    store.deliver_to(lambda name, value: got.append((name, value)))
    await store.subscribe("e")
    await store.write("e", "x", b"value", age_seconds=2.0, keep_seconds=10.0)
    clock.now += 3.0

    assert Stored(b"value", 5.0) == await store.read("e", "x")
    assert await store.read("e", "y") is None
    clock.now += 7.5
    assert await store.read("e", "x") is None
    await store.write("e", "y", b"new", age_seconds=0.0, keep_seconds=10.0)
    assert await store.read("e", "x") is None
    await store.remove("e")
    assert await store.read("e", "y") is None
    await store.close()
    await store.write("e", "x", b"unheard", age_seconds=0.0, keep_seconds=10.0)
    assert [("e", b"value"), ("e", b"new")] == got


def test_lease_is_kept_by_a_holder_that_polls_often_enough() -> None:
    """Another gets the last value, or takes over if it polls more often."""
    clock = MonotonicClock()
    memory = with_replicas(clock, "a", "b")
    memory.write("e", "x", b"value", age_seconds=0.0, keep_seconds=9.0)

    def claim(replica: str, period_seconds: float) -> Claim:
        return memory.claim("e", "x", replica=replica, period_seconds=period_seconds)

    assert Claim("a", None) == claim("a", 5.0)
    assert Claim("a", Stored(b"value", 0.0)) == claim("b", 5.0)
    assert Claim("b", None) == claim("b", 1.0)
    assert "b" == claim("a", 5.0).holder
    clock.now += 3.0
    memory.beat("a", is_attached=True, known=1)
    assert Claim("a", None) == claim("a", 5.0)


@pytest.mark.parametrize("way", ["release", "leave", "forget"])
def test_lease_that_is_given_up_is_announced(way: str) -> None:
    """An empty value says that another may take it."""
    clock = MonotonicClock()
    memory = with_replicas(clock, "a")
    got: list[bytes] = []
    memory.subscribe("e", lambda _name, value: got.append(value))
    memory.claim("e", "x", replica="a", period_seconds=1.0)
    memory.count("c", 1, replica="a", limit=None)
    if way == "release":
        memory.release("e", replica="b")
        memory.release("e", replica="a")
    elif way == "leave":
        memory.leave("a")
    else:
        clock.now += FORGET_SECONDS
        memory.beat("b", is_attached=True, known=1)

    assert [b""] == got
