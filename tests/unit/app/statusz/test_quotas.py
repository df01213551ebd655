"""The quotas on the status page: a bounded number, the important ones first."""

from __future__ import annotations

from math import inf

from healthomics_gateway.app.statusz.bounds import MAX_ACCOUNTS
from healthomics_gateway.app.statusz.quotas import quotas
from healthomics_gateway.runs.bulkhead import Bulkhead
from healthomics_gateway.runs.quota import LocalQuota
from healthomics_gateway.runs.rate_limit import OWN_ACCOUNT
from healthomics_gateway.runs.scheduler import Scheduler
from healthomics_gateway.shared.adaptive_rate import RECOVERY_SECONDS
from healthomics_gateway.telemetry.quota_scope import ALL
from healthomics_gateway.telemetry.recent import QuotaUse


def scheduler(sent: int) -> Scheduler:
    """Return the scheduler of an account to which so many requests were sent."""
    use = QuotaUse(tps=8, recovery_seconds=RECOVERY_SECONDS)
    for _ in range(sent):
        use.sent(8)
    return Scheduler(
        LocalQuota(tps=8, burst=8), poll_share=0.5, places=Bulkhead(inf), use=use
    )


def test_own_account_is_first_then_the_busiest() -> None:
    """Accounts beyond the bound are counted: those that were asked least."""
    number = MAX_ACCOUNTS + 5
    schedulers = {f"account-{at}": scheduler(at) for at in range(1, number)}
    schedulers[OWN_ACCOUNT] = scheduler(0)
    waiting = {account: {"call": 2, "poll": 1} for account in schedulers}
    left_out: dict[str, int] = {}
    found = quotas(schedulers, waiting, left_out, scope=ALL)

    busiest = [f"account-{at}" for at in range(number - 1, 0, -1)]
    assert [OWN_ACCOUNT, *busiest][:MAX_ACCOUNTS] == [each.account for each in found]
    assert {ALL} == {each.scope for each in found}
    assert {"quota": number - MAX_ACCOUNTS} == left_out
    assert (2, 1, number - 1) == (
        found[1].waiting_calls,
        found[1].waiting_polls,
        found[1].used,
    )
