"""The rate of a quota, which a throttle lowers and time restores."""

from __future__ import annotations

from math import inf

CUT = 0.7  # factor of the rate after a throttle
CUT_EVERY_SECONDS = 1.0  # at most: throttles that arrive together count once
RECOVERY_SECONDS = 50.0  # from a rate of 0 back to `tps`
LEAST_TPS = 0.5  # after throttles, unless `tps` is lower


class AdaptiveRate:
    """Tokens a second; `now` is the time in seconds, and `tps` the full rate."""

    def __init__(self) -> None:
        """Begin at the full rate."""
        self._rate, self._set_at, self._cut_at = inf, -inf, -inf

    def at(self, now: float, tps: float) -> float:
        """Return the rate at a time."""
        gained = (now - self._set_at) * tps / RECOVERY_SECONDS
        return min(self._rate + gained, tps)

    def note(self, now: float, rate: float) -> None:
        """Set the rate to one that the store has reported."""
        self._rate, self._set_at = rate, now

    def cut(self, now: float, tps: float) -> bool:
        """Lower the rate, unless that was done within the last second.

        Return whether it was lowered.
        """
        if now - self._cut_at < CUT_EVERY_SECONDS:
            return False
        self._rate = min(max(self.at(now, tps) * CUT, LEAST_TPS), tps)
        self._set_at = self._cut_at = now
        return True
