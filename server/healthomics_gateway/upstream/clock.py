"""What time it is: the machine's clock, and AWS's beside it as its answers tell."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

MIN_SKEW = timedelta(minutes=1)  # AWS accepts five; less than one is a slow answer
MAX_SKEW = timedelta(days=36_500)  # beyond it the answer's date is nonsense
NO_SKEW = timedelta(0)


def utc_now() -> datetime:
    """Give the time of the machine's clock."""
    return datetime.now(UTC)


class Clock:
    """The machine's clock, shared by all who sign: one refusal teaches them all."""

    def __init__(self, now: Callable[[], datetime] = utc_now) -> None:
        """Take AWS's clock for equal to `now` until an answer tells otherwise."""
        self.now = now
        self.skew = NO_SKEW  # what AWS's clock is ahead

    @property
    def aws_now(self) -> datetime:
        """The time by AWS's clock."""
        return self.now() + self.skew

    def learn(self, date: str) -> None:
        """Take what AWS's clock is ahead from an answer's date, if it has one."""
        self.skew = self._measured_skew(date)

    def differs_from(self, skew: timedelta) -> bool:
        """Tell whether what was signed with that skew was signed at a wrong time."""
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
