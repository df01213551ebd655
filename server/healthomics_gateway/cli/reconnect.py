"""Decides whether and when to start a failed watch again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from healthomics_gateway.backoff import backoff_seconds
from healthomics_gateway.cli.error_view import CallFailure

RENEW = "WATCH_RENEW"
EXPIRED = "TOKEN_EXPIRED"
BASE_SECONDS = 0.5  # the back-off after the first failure; doubled for each further one
MAX_SECONDS = 30.0
JITTER = 0.2  # of the back-off, plus or minus


class RetryPolicy:
    """Decides whether and when to retry a watch.

    It gives up when no attempt has succeeded for `timeout_seconds`.
    """

    def __init__(
        self,
        timeout_seconds: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._timeout_seconds = timeout_seconds
        self._clock = clock
        self._jitter = jitter
        # The start of the failures; None: the last attempt succeeded.
        self._since: float | None = clock()
        self.failures = 0  # consecutive

    def reset(self) -> None:
        """Forget the earlier failures, because an attempt has succeeded."""
        self._since = None
        self.failures = 0

    def wait_seconds(self, failure: CallFailure) -> float | None:
        """Return the time until the next attempt, None to give up."""
        asked_seconds = failure.retry_seconds
        # The token file may contain a new token since this stream was started.
        is_renewable = failure.reason == EXPIRED and self._since is None
        if not (failure.is_retryable or is_renewable):
            return None
        if failure.reason == RENEW and asked_seconds is not None:
            self.reset()
            return asked_seconds
        now = self._clock()
        if self._since is None:
            self._since = now
        left_seconds = self._since + self._timeout_seconds - now
        if left_seconds <= 0 or (asked_seconds or 0.0) > left_seconds:
            return None
        seconds = backoff_seconds(
            self.failures, base_seconds=BASE_SECONDS, max_seconds=MAX_SECONDS
        )
        self.failures += 1
        if asked_seconds is not None:
            return asked_seconds
        spread = 1 + JITTER * (2 * self._jitter() - 1)
        return min(seconds * spread, left_seconds)
