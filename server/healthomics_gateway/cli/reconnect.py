"""Whether and when a watch that has failed is begun again."""

from __future__ import annotations

from collections.abc import Callable

from healthomics_gateway.cli.error_view import Failure

RENEW = "WATCH_RENEW"
EXPIRED = "TOKEN_EXPIRED"
BACKOFF_SECONDS = 0.5  # after a failure, doubled by each that follows
MAX_BACKOFF_SECONDS = 30.0
JITTER = 0.2  # of the backoff, either way


class Patience:
    """Decides whether and when to try again, within `timeout_seconds`."""

    def __init__(
        self,
        timeout_seconds: float,
        *,
        clock: Callable[[], float],
        jitter: Callable[[], float],
    ) -> None:
        self._timeout_seconds = timeout_seconds
        self._clock = clock
        self._jitter = jitter
        self._since: float | None = clock()  # when the last success was over
        self.failures = 0  # in a row

    def renew(self) -> None:
        """Count from the next failure."""
        self._since = None
        self.failures = 0

    def wait_seconds(self, failure: Failure) -> float | None:
        """Return the time until the next try, None if there is to be none."""
        asked_seconds = failure.retry_seconds
        # The file of the token that has begun this stream may have a new one by now.
        is_renewable = failure.reason == EXPIRED and self._since is None
        if not (failure.is_passing or is_renewable):
            return None
        if failure.reason == RENEW and asked_seconds is not None:
            self.renew()
            return asked_seconds
        now = self._clock()
        if self._since is None:
            self._since = now
        left_seconds = self._since + self._timeout_seconds - now
        if left_seconds <= 0 or (asked_seconds or 0.0) > left_seconds:
            return None
        backoff = min(BACKOFF_SECONDS * 2.0**self.failures, MAX_BACKOFF_SECONDS)
        self.failures += 1
        if asked_seconds is not None:
            return asked_seconds
        spread = 1 + JITTER * (2 * self._jitter() - 1)
        return min(backoff * spread, left_seconds)
