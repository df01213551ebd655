"""Composes what replicas share: their answers, and the limits of callers."""

from __future__ import annotations

from dataclasses import dataclass

from healthomics_gateway.app.sharing import Sharing
from healthomics_gateway.interceptors.caller_limits import CallerLimits
from healthomics_gateway.interceptors.shared_counts import SharedCounts
from healthomics_gateway.interceptors.shared_rates import SharedRates
from healthomics_gateway.runs.answer_values import AnswerValues
from healthomics_gateway.runs.cache import Cache
from healthomics_gateway.runs.shared_answers import SharedAnswers
from healthomics_gateway.runs.shared_watches import SharedWatches
from healthomics_gateway.settings.schema import Settings
from healthomics_gateway.telemetry.metrics.registry import Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedRuns:
    """What replicas share of the runs that they read."""

    answers: SharedAnswers | None = None
    watches: SharedWatches | None = None


def make_shared_runs(
    settings: Settings, sharing: Sharing | None, cache: Cache, metrics: Metrics
) -> SharedRuns:
    """Create what replicas share of runs; answers that are found are in `cache` too."""
    if sharing is None:
        return SharedRuns()
    values = AnswerValues(
        sharing.names, sharing.sealer, rejected=metrics.store.values_rejected
    )
    answers = SharedAnswers(
        sharing.replica,
        values,
        cache,
        max_age_seconds=settings.cache.max_staleness_limit.total_seconds(),
        found=metrics.store.answers,
        ages=metrics.answer_age_seconds,
    )
    return SharedRuns(answers=answers, watches=SharedWatches(sharing.replica, values))


def make_caller_limits(sharing: Sharing | None) -> CallerLimits:
    """Create the limits of callers, which hold for all replicas that share."""
    if sharing is None:
        return CallerLimits()
    return CallerLimits(
        rates=SharedRates(sharing.replica, sharing.names),
        watches=SharedCounts(sharing.replica, sharing.names),
    )
