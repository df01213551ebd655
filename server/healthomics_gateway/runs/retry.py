"""A source that tries the next one again, within the caller's deadline."""

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
# Without usable credentials none of the calls succeeds before the next look for some.
UNUSABLE = {Reason.GATEWAY_CREDENTIALS_UNAVAILABLE, Reason.GATEWAY_CREDENTIALS_EXPIRED}
LOOK_BASE_SECONDS, LOOK_JITTER_SECONDS = 1.0, 4.0
RETRY_AFTER_BEYOND_SECONDS = 5.0  # AWS may ask for this much more than computed
RETRIES_IN_HAND = 10.0  # at the start, and at most
RETRIES_PER_CALL = 0.2  # that each call earns: a dead upstream sees 1.2 calls for one


class Retrying:
    """Asks up to `max_attempts` times, with full jitter between.

    The last failure stands when the reason isn't worth another attempt, no attempt,
    no time or no retry is left, or another attempt is refused before HealthOmics is
    asked. It then carries the wait that would have come next.

    All calls share the retries in hand, so that retries don't add to an outage. What
    the gateway has fixed by itself is tried again beyond them.
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
        """Wrap `runs`; `jitter` draws from [0, 1), `clock` is the deadlines'."""
        self._runs = runs
        self._max_attempts = max_attempts
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter
        self._in_hand = RETRIES_IN_HAND

    async def get_run(self, query: RunQuery, *, call: Call) -> Answer:
        """Answer the run as soon as an attempt succeeds."""
        self._in_hand = min(self._in_hand + RETRIES_PER_CALL, RETRIES_IN_HAND)
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
                # A watch polls again by itself, and has more patience.
                again = (error.again is Again.YES and not call.is_poll) or (
                    error.again in (Again.ONCE, Again.FIXED)
                    and error.reason not in tried_once
                )
                earliest_end = self._clock() + wait + MIN_ATTEMPT_SECONDS
                if (
                    not again
                    or attempt >= self._max_attempts
                    or earliest_end > call.deadline
                    or not self._afford(error)
                ):
                    raise error from None
                tried_once.add(error.reason)
                last = error
            await self._sleep(wait)

    def _afford(self, error: GatewayError) -> bool:
        """Take a retry out of those in hand, if one is needed and left."""
        if error.again is Again.FIXED:
            return True
        if self._in_hand < 1:
            return False
        self._in_hand -= 1
        return True

    def _wait_seconds(self, error: GatewayError, attempt: int) -> float:
        if error.again is Again.NO and error.reason in UNUSABLE:
            return LOOK_BASE_SECONDS + self._jitter() * LOOK_JITTER_SECONDS
        throttled = error.reason is Reason.UPSTREAM_THROTTLED
        base = THROTTLED_BASE_SECONDS if throttled else BASE_SECONDS
        computed = self._jitter() * backoff_seconds(attempt - 1, base_seconds=base)
        asked = error.retry_after_seconds or 0.0
        return min(max(asked, computed), computed + RETRY_AFTER_BEYOND_SECONDS)
