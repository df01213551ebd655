"""Merges the use of the quotas by several workers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import floor

from healthomics_gateway.app.statusz.bounds import MAX_ACCOUNTS, bounded
from healthomics_gateway.app.statusz.shape import QuotaState, Snapshot
from healthomics_gateway.runs.rate_limit import OWN_ACCOUNT
from healthomics_gateway.telemetry.recent import SLOT_SECONDS, SLOTS, SlotUse, left_of

# Of a slot: all workers' slots begin at the same times, but their clocks are read at
# slightly different ones.
TOLERANCE = 0.01


@dataclass(frozen=True, slots=True)
class _Timed:
    """A slot of one worker."""

    begin: float  # in seconds since 1970
    use: SlotUse


def merged_quotas(
    living: Sequence[Snapshot], past: Snapshot, *, now: float, left_out: dict[str, int]
) -> list[QuotaState]:
    """Return the quotas: of the gateway's own account, then of the busiest others.

    `past` has those of workers that have ended. `now` is in seconds since 1970.
    """
    states: defaultdict[str, list[tuple[float, QuotaState]]] = defaultdict(list)
    for each in (*living, past):
        for quota in each.quota:
            states[quota.account].append((each.time.timestamp(), quota))
    current = {
        account: [q for each in living for q in each.quota if q.account == account]
        for account in states
    }
    quotas = [
        _quota(current[account] or [found[-1][1]], _slots(found, now))
        for account, found in states.items()
    ]
    shown = sorted(
        (each for each in quotas if each.slots),
        key=lambda each: (each.account != OWN_ACCOUNT, -each.used),
    )
    return list(bounded("quota", shown, left_out, most=MAX_ACCOUNTS))


def _quota(states: Sequence[QuotaState], slots: Sequence[SlotUse]) -> QuotaState:
    return replace(
        # Each worker reports the rate of all together. One that has lost the store
        # reports that of this gateway, which counts if all of them have.
        max(states, key=lambda each: each.limit_per_second),
        rate_per_second=max(each.rate_per_second for each in states),
        tokens=round(sum(each.tokens for each in states), 3),
        waiting_calls=sum(each.waiting_calls for each in states),
        waiting_polls=sum(each.waiting_polls for each in states),
        used=sum(each.used for each in slots),
        left=left_of(slots),
        throttled=sum(each.throttled for each in slots),
        slots=slots,
    )


def _slots(states: Sequence[tuple[float, QuotaState]], now: float) -> list[SlotUse]:
    timed = [
        _Timed(time - slot.ago_seconds, slot)
        for time, quota in states
        for slot in quota.slots
    ]
    by_number: defaultdict[int, list[_Timed]] = defaultdict(list)
    if not timed:
        return []
    boundary = _boundary(states)
    for each in timed:
        by_number[floor((each.begin - boundary) / SLOT_SECONDS + TOLERANCE)].append(
            each
        )
    newest = floor((now - boundary) / SLOT_SECONDS + TOLERANCE)
    return [
        _slot(by_number[number], now)
        for number in sorted(by_number)
        if newest - SLOTS < number <= newest
    ]


def _boundary(states: Sequence[tuple[float, QuotaState]]) -> float:
    """Return when a slot began; the first slot of a worker begins with the worker."""
    _, begin = max(
        (len(quota.slots) > 1, time - quota.slots[-1].ago_seconds)
        for time, quota in states
        if quota.slots
    )
    return begin


def _slot(parts: Sequence[_Timed], now: float) -> SlotUse:
    begin = min(each.begin for each in parts)
    end = max(each.begin + each.use.seconds for each in parts)
    return SlotUse(
        ago_seconds=round(max(now - begin, 0.0), 3),
        seconds=round(min(end - begin, SLOT_SECONDS), 3),
        used=sum(each.use.used for each in parts),
        throttled=sum(each.use.throttled for each in parts),
        rate_per_second=min(each.use.rate_per_second for each in parts),
    )
