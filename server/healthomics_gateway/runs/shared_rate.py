"""The rate of a quota that several replicas share."""

from __future__ import annotations

import time
from collections.abc import Callable

from healthomics_gateway.shared.adaptive_rate import AdaptiveRate
from healthomics_gateway.shared.replica import Replica
from healthomics_gateway.shared.store import Rate

LEAST_SHARE = 0.5  # of the rate, which the replicas have together while detached
USABLE_SECONDS = 0.1  # from a token's time on; then it isn't used any more


def drawn(tps: float, burst: float) -> Rate:
    """Return the rate at which tokens may be drawn to send `tps` + `burst` a second.

    A token may be used for USABLE_SECONDS, so the tokens of a longer time can be used
    within a second.
    """
    capacity = max(1.0, burst - tps * USABLE_SECONDS)
    return Rate(min(tps, (tps + burst - capacity) / (1 + USABLE_SECONDS)), capacity)


def static_share(rate: Rate, replicas: int) -> Rate:
    """Return the share of a rate that each of so many replicas has while detached.

    The buckets of all of them can have a token each at the same moment, so the rate is
    lower by the tokens that are more than `burst`.
    """
    most = max(rate.tps + rate.burst - replicas, rate.tps * LEAST_SHARE)
    return Rate(min(rate.tps, most) / replicas, max(1.0, rate.burst / replicas))


class SharedRate:
    """Tokens a second: of all replicas, or of this gateway while it is detached.

    Throttles lower them, also those of other replicas.
    """

    def __init__(
        self,
        replica: Replica,
        *,
        tps: float,
        burst: float,
        workers: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with the full rate; this gateway has so many `workers`."""
        self.drawn = drawn(tps, burst)  # the full rate of tokens
        self._tps = tps
        self._workers = workers
        self._replica = replica
        self._clock = clock
        self._adaptive = AdaptiveRate()

    @property
    def most(self) -> float:
        """The tokens a second at most, of those that `current` is about."""
        if self._replica.is_attached:
            return self._tps
        return self._of_workers(self.drawn.tps)

    @property
    def current(self) -> float:
        """The tokens a second at the moment.

        They are those of all replicas together or, while this one is detached, of its
        gateway, whose other workers are taken to be detached too.
        """
        replica = self._replica
        if replica.is_attached:
            return self.whole * len(replica.attached) / replica.replicas
        return self._of_workers(self.whole)

    @property
    def whole(self) -> float:
        """The tokens a second of all replicas, also of those that are detached."""
        return self._adaptive.at(self._clock(), self.drawn.tps)

    @property
    def is_full(self) -> bool:
        """Return whether no throttle lowers it."""
        return self.whole >= self.drawn.tps

    @property
    def least(self) -> float:
        """The tokens a second that this replica has at least while it is attached."""
        return self.whole / self._replica.replicas

    @property
    def share(self) -> Rate:
        """The static share of this replica."""
        return self._share_of(self.whole)

    def note(self, tps: float) -> None:
        """Set the rate to that of the attached replicas, which the store reported."""
        replica = self._replica
        whole = tps * replica.replicas / max(len(replica.attached), 1)
        self._adaptive.note(self._clock(), whole)

    def cut(self) -> bool:
        """Lower it, once for throttles within a second; return whether it was done."""
        return self._adaptive.cut(self._clock(), self.drawn.tps)

    def _of_workers(self, whole: float) -> float:
        """Return the static share of a rate, of all workers together."""
        return min(whole, self._share_of(whole).tps * self._workers)

    def _share_of(self, whole: float) -> Rate:
        return static_share(Rate(whole, self.drawn.burst), self._replica.replicas)
