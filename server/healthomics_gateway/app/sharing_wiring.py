"""Composes what replicas share: their answers, and the limits of callers."""

from __future__ import annotations

from typing import Protocol

from healthomics_gateway.interceptors.caller_limits import CallerLimits
from healthomics_gateway.interceptors.shared_counts import SharedCounts
from healthomics_gateway.interceptors.shared_rates import SharedRates
from healthomics_gateway.runs.answer_values import AnswerValues
from healthomics_gateway.runs.cache import Cache
from healthomics_gateway.runs.shared_answers import SharedAnswers
from healthomics_gateway.settings.schema import Settings
from healthomics_gateway.shared.names import Names
from healthomics_gateway.shared.replica import Replica
from healthomics_gateway.shared.seal import Sealer
from healthomics_gateway.telemetry.metrics.registry import Metrics


class Sharing(Protocol):
    """A replica, and the names and values that it has in the store."""

    @property
    def replica(self) -> Replica:
        """The relation of this gateway to the store."""
        ...

    @property
    def names(self) -> Names:
        """The names of entries."""
        ...

    @property
    def sealer(self) -> Sealer:
        """Authenticates values."""
        ...


def make_shared_answers(
    settings: Settings, sharing: Sharing, cache: Cache, metrics: Metrics
) -> SharedAnswers:
    """Create the answers that replicas share; those found are kept in `cache`."""
    rejected = metrics.store.values_rejected
    return SharedAnswers(
        sharing.replica,
        AnswerValues(sharing.names, sharing.sealer, rejected=rejected),
        cache,
        max_age_seconds=settings.cache.max_staleness_limit.total_seconds(),
        found=metrics.store.answers,
        ages=metrics.answer_age_seconds,
    )


def make_caller_limits(sharing: Sharing | None) -> CallerLimits:
    """Create the limits of callers, which hold for all replicas that share."""
    if sharing is None:
        return CallerLimits()
    return CallerLimits(
        rates=SharedRates(sharing.replica, sharing.names),
        watches=SharedCounts(sharing.replica, sharing.names),
    )
