"""Collects the use of each account's quota for the status page."""

from __future__ import annotations

from collections.abc import Mapping

from healthomics_gateway.app.statusz.bounds import MAX_ACCOUNTS, bounded
from healthomics_gateway.app.statusz.shape import QuotaState
from healthomics_gateway.app.waiting import CALL, POLL
from healthomics_gateway.runs.rate_limit import OWN_ACCOUNT
from healthomics_gateway.runs.scheduler import Scheduler
from healthomics_gateway.telemetry.recent import QuotaUse, left_of


def quotas(
    schedulers: Mapping[str, Scheduler],
    waiting: Mapping[str, Mapping[str, int]],
    left_out: dict[str, int],
    *,
    scope: str,
) -> list[QuotaState]:
    """Return the quotas: of the gateway's own account, then of the busiest others.

    `schedulers` and `waiting`, the lengths of their queues, are by account. `scope`
    says whose requests the quotas limit.
    """
    uses = {account: each.use for account, each in schedulers.items() if each.use}
    by_use = sorted(uses, key=lambda each: (each != OWN_ACCOUNT, -uses[each].used))
    return [
        _quota(each, schedulers[each], uses[each], waiting[each], scope)
        for each in bounded("quota", by_use, left_out, most=MAX_ACCOUNTS)
    ]


def _quota(
    account: str,
    scheduler: Scheduler,
    use: QuotaUse,
    waiting: Mapping[str, int],
    scope: str,
) -> QuotaState:
    slots = use.slots
    return QuotaState(
        account=account,
        scope=scope,
        limit_per_second=round(scheduler.tps, 3),
        tokens=round(scheduler.tokens, 3),
        rate_per_second=round(scheduler.rate, 3),  # `tokens` has brought it up to date
        waiting_calls=waiting[CALL],
        waiting_polls=waiting[POLL],
        used=use.used,
        left=left_of(slots),
        throttled=sum(each.throttled for each in slots),
        slots=slots,
    )
