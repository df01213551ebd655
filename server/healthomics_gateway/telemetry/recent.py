"""What happened lately, in a bounded space: the newest errors and the quota's use."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

MAX_ERRORS = 20
MAX_REASONS = 100  # more than the table of errors has
SLOT_SECONDS = 15.0
SLOTS = 60  # 15 minutes

# Not errors: the client left, or a watch has lasted as long as it may.
EXPECTED = frozenset({"", "WATCH_RENEW"})
UNKNOWN_METHOD = "METHOD_UNKNOWN"  # the reason for which a caller chose the method


class FailedCall(Protocol):
    """A call that has failed."""

    @property
    def method(self) -> str:
        """Its method, /package.Service/Method."""
        ...

    @property
    def code(self) -> Any:
        """The code of its status; `name` is its name."""
        ...

    @property
    def reason(self) -> str:
        """Its reason; empty if the client has cancelled it."""
        ...

    @property
    def request_id(self) -> str:
        """Its request id."""
        ...

    @property
    def identity(self) -> str:
        """The identity of its caller."""
        ...


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed call."""

    time: datetime
    reason: str
    code: str
    method: str  # empty if there is no such method
    request_id: str
    identity: str | None  # None if it isn't shown


@dataclass(frozen=True, slots=True)
class ReasonCount:
    """The calls that failed for one reason, since the start."""

    count: int
    last: Failure


class RecentErrors:
    """The last 20 failed calls, and the number and the last of each reason."""

    def __init__(
        self, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        """Begin without any."""
        self._now = now
        self._newest: deque[Failure] = deque(maxlen=MAX_ERRORS)
        self._by_reason: dict[str, ReasonCount] = {}

    def add(self, call: FailedCall) -> None:
        """Add a call, unless its end was expected."""
        reason = call.reason
        if reason in EXPECTED:
            return
        method = "" if reason == UNKNOWN_METHOD else call.method
        failure = Failure(
            self._now(), reason, call.code.name, method, call.request_id, call.identity
        )
        self._newest.append(failure)
        known = self._by_reason.get(reason)
        if known or len(self._by_reason) < MAX_REASONS:
            count = known.count if known else 0
            self._by_reason[reason] = ReasonCount(count + 1, failure)

    @property
    def newest(self) -> Sequence[Failure]:
        """The last failed calls, the newest first."""
        return tuple(reversed(self._newest))

    @property
    def by_reason(self) -> Sequence[ReasonCount]:
        """The failures of each reason, the most frequent first."""
        return sorted(self._by_reason.values(), key=lambda each: -each.count)


@dataclass(slots=True)
class _Slot:
    number: int = -1  # of the 15 seconds that it counts, since the clock's zero
    used: int = 0
    throttled: int = 0
    rate: float = 0.0  # the lowest


@dataclass(frozen=True, slots=True)
class SlotUse:
    """What was used of a quota in 15 seconds."""

    ago_seconds: float  # from its start until now
    seconds: float  # how much of it has passed since the gateway's start
    used: int  # requests that were sent
    throttled: int  # throttles by AWS
    rate_per_second: float  # the lowest rate that was allowed

    @property
    def limit(self) -> float:
        """The requests that the rate allowed."""
        return self.rate_per_second * self.seconds


def left_of(slots: Sequence[SlotUse]) -> int:
    """Return how many further requests the rate would have allowed in these slots."""
    return round(sum(max(0.0, each.limit - each.used) for each in slots))


class QuotaUse:
    """The requests to one account in each 15 seconds of the last 15 minutes."""

    def __init__(
        self,
        *,
        tps: float,
        recovery_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin without requests; `tps` is the rate if AWS doesn't throttle.

        A rate that a throttle has lowered rises by `tps` in `recovery_seconds`.
        """
        self._tps = tps
        self._gain = tps / recovery_seconds
        self._clock = clock
        self._begun = clock()
        self._known = self._begun, tps  # when the rate was known last, and the rate
        self._last = int(self._begun // SLOT_SECONDS) - 1  # the number of the last slot
        self._slots = [_Slot() for _ in range(SLOTS)]

    def sent(self, rate: float) -> None:
        """Count a request that is sent while `rate` requests a second are allowed."""
        self._note(rate).used += 1

    def throttled(self, rate: float) -> None:
        """Count a throttle, which has lowered the rate to `rate`."""
        self._note(rate).throttled += 1

    @property
    def used(self) -> int:
        """The requests that were sent in these slots."""
        oldest = int(self._clock() // SLOT_SECONDS) - SLOTS + 1
        return sum(each.used for each in self._slots if each.number >= oldest)

    @property
    def slots(self) -> Sequence[SlotUse]:
        """The slots since the start, at most 60, the oldest first, the last under way.

        A slot without requests has the rate that would have been allowed.
        """
        now = self._clock()
        last = self._slot(now).number
        first = max(last - SLOTS + 1, int(self._begun // SLOT_SECONDS))
        numbers = range(first, last + 1)
        return [self._use(self._slots[number % SLOTS], now) for number in numbers]

    def _use(self, slot: _Slot, now: float) -> SlotUse:
        begin = max(slot.number * SLOT_SECONDS, self._begun)
        seconds = min((slot.number + 1) * SLOT_SECONDS, now) - begin
        return SlotUse(
            ago_seconds=round(now - begin, 3),
            seconds=round(seconds, 3),
            used=slot.used,
            throttled=slot.throttled,
            rate_per_second=round(slot.rate, 3),
        )

    def _note(self, rate: float) -> _Slot:
        """Return the slot under way, in which the rate was `rate` just now."""
        now = self._clock()
        slot = self._slot(now)
        slot.rate = min(slot.rate, rate)
        self._known = now, rate
        return slot

    def _slot(self, now: float) -> _Slot:
        """Return the slot under way, after all that have begun since the last one."""
        number = int(now // SLOT_SECONDS)
        for each in range(max(self._last + 1, number - SLOTS + 1), number + 1):
            rate = self._rate_at(each * SLOT_SECONDS)
            self._slots[each % SLOTS] = _Slot(number=each, rate=rate)
        self._last = number
        return self._slots[number % SLOTS]

    def _rate_at(self, begin: float) -> float:
        """Return the rate at the start of a slot; it only rises without a throttle."""
        at, rate = self._known
        return min(rate + max(begin - at, 0.0) * self._gain, self._tps)
