"""Composes the schedulers of all accounts, and their quotas, from the settings."""

from __future__ import annotations

from math import inf

from healthomics_gateway.app.sharing import Sharing
from healthomics_gateway.runs.bulkhead import Bulkhead
from healthomics_gateway.runs.quota import LocalQuota, Quota
from healthomics_gateway.runs.rate_limit import Schedulers
from healthomics_gateway.runs.scheduler import Scheduler
from healthomics_gateway.runs.shared_quota import SharedQuota
from healthomics_gateway.settings.schema import Settings
from healthomics_gateway.shared.adaptive_rate import RECOVERY_SECONDS
from healthomics_gateway.telemetry.metrics.registry import Metrics
from healthomics_gateway.telemetry.recent import QuotaUse


def make_schedulers(
    settings: Settings, metrics: Metrics, sharing: Sharing | None = None
) -> tuple[Schedulers, Schedulers]:
    """Return the schedulers of all attempts, and those of the polls of watches.

    With `sharing`, the replicas share the quota of each account.
    """
    tps, share = settings.quota.tps, settings.watch.quota_share
    burst = settings.quota.burst
    places = Bulkhead(settings.upstream.max_concurrent)
    attempts = Schedulers(
        lambda account: Scheduler(
            _quota(sharing, account, "calls", tps=tps, burst=burst),
            poll_share=share,
            places=places,
            use=QuotaUse(tps=tps, recovery_seconds=RECOVERY_SECONDS),
            metrics=metrics.queue,
        )
    )
    polls = Schedulers(
        lambda account: Scheduler(
            _quota(
                sharing,
                account,
                "polls",
                tps=tps * share,
                burst=max(1.0, burst * share),
            ),
            poll_share=share,
            places=Bulkhead(inf),  # the fetch of a poll takes a place of `attempts`
            metrics=metrics.queue,
        )
    )
    return attempts, polls


def _quota(
    sharing: Sharing | None, account: str, kind: str, *, tps: float, burst: float
) -> Quota:
    """Return the quota of an account, or of the gateway's own one if it is empty."""
    if not sharing:
        return LocalQuota(tps=tps, burst=burst)
    names = sharing.names
    return SharedQuota(
        sharing.replica,
        lambda: names.quota(account, kind),
        tps=tps,
        burst=burst,
        workers=sharing.workers,
    )
