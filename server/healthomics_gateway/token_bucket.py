"""The token bucket behind every rate limit: of accounts, callers and rejections."""

from __future__ import annotations

from collections.abc import Callable

WHOLE = 1 - 1e-6  # token: sums of fractions fall short of one


class TokenBucket:
    """Tokens that arrive at `rate` a second, up to `capacity`. It starts full.

    Call `fill` before `take`, `has_token`, `is_full` or `wait_seconds`. `clock` counts
    seconds.
    """

    __slots__ = ("_capacity", "_clock", "_filled_at", "rate", "tokens")

    def __init__(
        self, *, rate: float, capacity: float, clock: Callable[[], float]
    ) -> None:
        """Start with `capacity` tokens."""
        self.rate = rate
        self.tokens = float(capacity)
        self._capacity = capacity
        self._clock = clock
        self._filled_at = clock()

    def resize(self, *, rate: float, capacity: float) -> None:
        """Change the rate from now on, and the capacity; keep the tokens that fit."""
        self.fill()
        self.rate, self._capacity = rate, capacity
        self.tokens = min(self.tokens, capacity)

    def fill(self) -> float:
        """Add the tokens that arrived since the last time; return the seconds since."""
        now = self._clock()
        seconds, self._filled_at = now - self._filled_at, now
        self.tokens = min(self.tokens + seconds * self.rate, self._capacity)
        return seconds

    def take(self) -> bool:
        """Take a token; return whether there was one."""
        if not self.has_token:
            return False
        self.tokens -= 1
        return True

    @property
    def has_token(self) -> bool:
        """Return whether a token can be used now."""
        return self.tokens >= WHOLE

    @property
    def is_full(self) -> bool:
        """Return whether it has all the tokens that it can have."""
        return self.tokens >= self._capacity

    @property
    def wait_seconds(self) -> float:
        """The seconds until there is a whole token."""
        return max(1 - self.tokens, 0.0) / self.rate
