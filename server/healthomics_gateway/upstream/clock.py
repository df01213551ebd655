"""The machine's clock, and the time by AWS's clock, from the dates of its answers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

# AWS accepts five minutes; a slow answer can look like a skew of less than one.
MIN_SKEW = timedelta(minutes=1)
MAX_SKEW = timedelta(days=36_500)  # a date that differs by more is ignored
NO_SKEW = timedelta(0)


def utc_now() -> datetime:
    """Return the time by the machine's clock."""
    return datetime.now(UTC)


class Clock:
    """A clock that all signers share, so that one refusal corrects it for all."""

    def __init__(self, now: Callable[[], datetime] = utc_now) -> None:
        """Create a clock without skew; `now` is the machine's time."""
        self.now = now
        self.skew = NO_SKEW  # by which AWS's clock is ahead

    @property
    def aws_now(self) -> datetime:
        """The time by AWS's clock."""
        return self.now() + self.skew

    def learn(self, date: str) -> None:
        """Set the skew by an answer's Date header, if that is a date."""
        self.skew = self._measured_skew(date)

    def differs_from(self, skew: timedelta) -> bool:
        """Return whether a request that was signed with `skew` had a wrong time."""
        return abs(self.skew - skew) >= MIN_SKEW

    def _measured_skew(self, text: str) -> timedelta:
        try:
            date = parsedate_to_datetime(text)
        except (ValueError, OverflowError):
            return self.skew
        skew = (date if date.tzinfo else date.replace(tzinfo=UTC)) - self.now()
        if abs(skew) > MAX_SKEW:
            return self.skew
        return skew if abs(skew) >= MIN_SKEW else NO_SKEW
