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
        skew = skew_of(date, self.now())
        if skew is not None:
            self.skew = skew

    def differs_from(self, skew: timedelta) -> bool:
        """Return whether a request that was signed with `skew` had a wrong time."""
        return abs(self.skew - skew) >= MIN_SKEW


def skew_of(date: str, now: datetime) -> timedelta | None:
    """Return by how much a Date header is ahead of `now`; None if it isn't usable.

    A difference that a slow answer could cause is no skew.
    """
    try:
        sent = parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return None
    skew = (sent if sent.tzinfo else sent.replace(tzinfo=UTC)) - now
    if abs(skew) > MAX_SKEW:
        return None
    return skew if abs(skew) >= MIN_SKEW else NO_SKEW
