"""The account's quota on GetRun: a token bucket that starts full."""

from collections.abc import Callable


class TokenBucket:
    """Lets `rate_per_second` calls a second through, and `depth` at once.

    A rate of 0 is no quota at all. `monotonic` is a clock in seconds.
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
        """Takes one token; False when there is none."""
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
