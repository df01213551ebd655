"""Decides whether HealthOmics can be reached, by the outcomes of the attempts."""

from __future__ import annotations

import time
from collections.abc import Callable

from healthomics_gateway.errors.reasons import Reason

MIN_ATTEMPTS = 5  # in a row that don't reach HealthOmics
MIN_SECONDS = 30.0  # from the first to the last of them


class Reachability:
    """Counts the attempts in a row that didn't reach HealthOmics.

    An answer of any kind reaches it, even an error or a throttle. The part is reported
    unready for the reason of the last attempt if at least 5 attempts in a row, over at
    least 30 s, had no answer. `Readiness` sets it ready again 30 s after the last one:
    an unready replica gets no new calls, so it couldn't notice the end of an outage.
    """

    def __init__(
        self,
        report: Callable[[Reason | None], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin without attempts; `report` is called with None or with the reason."""
        self._report = report
        self._clock = clock
        self._failures = 0  # in a row
        self._since = 0.0  # the first of them

    def note(self, failure: Reason | None) -> None:
        """Note the end of an attempt; `failure` says why HealthOmics wasn't reached."""
        if failure is None:
            if self._failures:
                self._failures = 0
                self._report(None)
            return
        now = self._clock()
        if not self._failures:
            self._since = now
        self._failures += 1
        if self._failures >= MIN_ATTEMPTS and now - self._since >= MIN_SECONDS:
            self._report(failure)

    def fault(self) -> str:
        """Return how many attempts in a row had no answer, or an empty string."""
        if not self._failures:
            return ""
        seconds = round(self._clock() - self._since)
        return f"no answer in {seconds} s; attempts in a row: {self._failures}"
