"""How many requests came to each fake HealthOmics, held to the quota of who asks it.

Every fake notes what comes, and whatever runs a gateway checks at its end that no
account got more than the gateway's settings allow. So each test holds the quota.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

DEFAULTS = {"GATEWAY_QUOTA__TPS": "8", "GATEWAY_QUOTA__BURST": "2"}
# That a request may be on its way, or wait for this busy machine to look at it. As
# many requests as come in that time may seem to come at once.
JITTER_SECONDS = 0.5

_fakes: dict[str, FirstMessages] = {}  # by URL


@dataclass(slots=True)
class _Level:
    """What a leaky bucket has in it that each request fills by one."""

    now: float = 0.0
    most: float = 0.0
    at: float = 0.0

    def note(self, at: float, tps: float) -> None:
        self.now = max(0.0, self.now - (at - self.at) * tps) + 1
        self.most = max(self.most, self.now)
        self.at = at


class FirstMessages:
    """The requests to one fake.

    In any time `t` a gateway may send `burst + tps * t` requests. A bucket that leaks
    `tps` a second and gets each request holds at most `burst` then; the jitter adds
    what comes in its time.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with none."""
        self._clock = clock
        self._tps = self._burst = 0.0  # of all gateways that ask it
        self._levels: defaultdict[str, _Level] = defaultdict(_Level)

    def allow(self, *, tps: float, burst: float) -> None:
        """Know of one more gateway that asks it."""
        self._tps += tps
        self._burst += burst

    def note(self, account: str = "") -> None:
        """Note a request, made as an identity of some account."""
        if self._tps:
            self._levels[account].note(self._clock(), self._tps)

    @property
    def excess(self) -> dict[str, float]:
        """By how many requests the rate was exceeded, by account; none is none."""
        allowed = self._burst + self._tps * JITTER_SECONDS
        return {
            account: level.most - allowed
            for account, level in self._levels.items()
            if level.most > allowed
        }


def noted_at(url: str) -> FirstMessages:
    """Begin to note the requests to a fake that listens there from now on."""
    _fakes[url] = arrivals = FirstMessages()
    return arrivals


@contextmanager
def within_quota(url: str, environ: Mapping[str, str]) -> Iterator[None]:
    """Run a gateway of these settings, and check what the fake at `url` got of it."""
    arrivals = _fakes.get(url)
    quota = DEFAULTS | environ
    if arrivals:
        arrivals.allow(
            tps=float(quota["GATEWAY_QUOTA__TPS"]),
            burst=float(quota["GATEWAY_QUOTA__BURST"]),
        )
    yield
    assert not (arrivals and arrivals.excess), (
        "more requests came than the quota allows"
    )
