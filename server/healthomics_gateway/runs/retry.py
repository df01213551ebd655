"""The source that retries, within the caller's deadline."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from healthomics_gateway.backoff import backoff_seconds
from healthomics_gateway.errors.exceptions import Again, GatewayError, NotAskedError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.runs.source import MIN_ATTEMPT_SECONDS

if TYPE_CHECKING:
    from healthomics_gateway.runs.source import Answer, Call, RunQuery, RunSource

BASE_SECONDS = 0.05
THROTTLED_BASE_SECONDS = 1.0
# Without usable credentials no call succeeds until the gateway looks for new ones.
UNUSABLE = {Reason.GATEWAY_CREDENTIALS_UNAVAILABLE, Reason.GATEWAY_CREDENTIALS_EXPIRED}
UNUSABLE_BASE_SECONDS, UNUSABLE_JITTER_SECONDS = 1.0, 4.0
RETRY_AFTER_BEYOND_SECONDS = 5.0  # that AWS's Retry-After may add to our own wait
RETRY_BUDGET = 10.0  # retries, at the start and at most
RETRIES_PER_CALL = 0.2  # added by each call: 1.2 requests a call if none succeeds


class Retrying:
    """Makes up to `max_attempts` attempts, with exponential back-off and full jitter.

    The last error is raised if its reason isn't retried, if no attempt, no time or no
    retry is left, or if the next attempt is refused before it is sent. Its
    `retry_delay_seconds` is the wait that would have come next.

    All calls share the retry budget, so that retries don't add to an outage. A failure
    whose cause the gateway has fixed is retried without using the budget.
    """

    def __init__(
        self,
        runs: RunSource,
        *,
        max_attempts: int,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Wrap `runs`; `jitter` draws from [0, 1); deadlines are times of `clock`."""
        self._runs = runs
        self._max_attempts = max_attempts
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter
        self._budget = RETRY_BUDGET

    async def get_run(self, query: RunQuery, *, call: Call) -> Answer:
        """Return the answer of the first attempt that succeeds."""
        self._budget = min(self._budget + RETRIES_PER_CALL, RETRY_BUDGET)
        tried_once: set[Reason] = set()
        attempt = 0
        last: GatewayError | None = None
        while True:
            attempt += 1
            try:
                return await self._runs.get_run(query, call=call)
            except NotAskedError:
                if last:
                    raise last from None
                raise
            except GatewayError as failure:
                wait = self._wait_seconds(failure, attempt)
                error = failure.replace(retry_delay_seconds=wait)
                # A watch polls again by itself, after a longer wait.
                again = (error.again is Again.YES and not call.is_poll) or (
                    error.again in (Again.ONCE, Again.FIXED)
                    and error.reason not in tried_once
                )
                earliest_end = self._clock() + wait + MIN_ATTEMPT_SECONDS
                if (
                    not again
                    or attempt >= self._max_attempts
                    or earliest_end > call.deadline
                    or not self._take_retry(error)
                ):
                    raise error from None
                tried_once.add(error.reason)
                last = error
            await self._sleep(wait)

    def _take_retry(self, error: GatewayError) -> bool:
        """Take a retry out of the budget; return False if it is used up."""
        if error.again is Again.FIXED:
            return True
        if self._budget < 1:
            return False
        self._budget -= 1
        return True

    def _wait_seconds(self, error: GatewayError, attempt: int) -> float:
        if error.again is Again.NO and error.reason in UNUSABLE:
            return UNUSABLE_BASE_SECONDS + self._jitter() * UNUSABLE_JITTER_SECONDS
        throttled = error.reason is Reason.UPSTREAM_THROTTLED
        base = THROTTLED_BASE_SECONDS if throttled else BASE_SECONDS
        computed = self._jitter() * backoff_seconds(attempt - 1, base_seconds=base)
        asked = error.aws_retry_after_seconds or 0.0
        return min(max(asked, computed), computed + RETRY_AFTER_BEYOND_SECONDS)
