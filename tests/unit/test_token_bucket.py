"""The token bucket, on a clock that the test sets."""

from __future__ import annotations

from healthomics_gateway.token_bucket import TokenBucket
from testkit.clocks import MonotonicClock


def test_bucket_fills_at_its_rate_up_to_its_capacity() -> None:
    """It starts full, and idle time adds no more than the capacity."""
    clock = MonotonicClock()
    bucket = TokenBucket(rate=4.0, capacity=2.0, clock=clock)
    bucket.tokens -= 2
    clock.now += 0.25

    assert 0.25 == bucket.fill()
    assert 1.0 == bucket.tokens
    clock.now += 1000.0
    bucket.fill()
    assert 2.0 == bucket.tokens


def test_bucket_without_a_token_says_when_the_next_arrives() -> None:
    """The wait is for the missing part of a token, and zero once there is a token."""
    clock = MonotonicClock()
    bucket = TokenBucket(rate=0.5, capacity=1.0, clock=clock)
    assert bucket.take()
    clock.now += 0.5
    bucket.fill()

    assert not bucket.has_token
    assert not bucket.take()
    assert 1.5 == bucket.wait_seconds
    clock.now += bucket.wait_seconds
    bucket.fill()
    assert bucket.has_token
    assert 0.0 == bucket.wait_seconds


def test_resized_bucket_keeps_the_tokens_that_fit() -> None:
    """Tokens of the time before arrive at the old rate, later ones at the new rate."""
    clock = MonotonicClock()
    bucket = TokenBucket(rate=4.0, capacity=8.0, clock=clock)
    bucket.tokens -= 8
    clock.now += 0.5
    bucket.resize(rate=1.0, capacity=4.0)
    assert 2.0 == bucket.tokens
    clock.now += 1.0
    bucket.fill()
    assert 3.0 == bucket.tokens
    bucket.resize(rate=1.0, capacity=1.0)
    assert 1.0 == bucket.tokens
