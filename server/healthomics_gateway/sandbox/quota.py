"""The account's quota on GetRun: a token bucket that starts full."""

from collections.abc import Callable


class TokenBucket:
    """Allows `rate_per_second` calls a second, and `depth` at once.

    With a rate of 0 there is no quota. `monotonic` is a clock in seconds.
    """

    def __init__(
        self, *, rate_per_second: float, depth: float, monotonic: Callable[[], float]
    ) -> None:
        self._rate_per_second = rate_per_second
        self._depth = depth
        self._monotonic = monotonic
        self._tokens = depth
        self._filled_at = monotonic()

    def take(self) -> bool:
        """Take one token; return False if there is none."""
        if not self._rate_per_second:
            return True
        now = self._monotonic()
        gained = (now - self._filled_at) * self._rate_per_second
        self._tokens = min(self._depth, self._tokens + gained)
        self._filled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
