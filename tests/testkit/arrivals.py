"""Checks the requests to each fake HealthOmics against the quota of the gateway.

Every fake notes its requests. Every fixture that runs a gateway checks at its end that
no account received more than the gateway's settings allow. So each test checks it.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

DEFAULTS = {"GATEWAY_QUOTA__TPS": "8", "GATEWAY_QUOTA__BURST": "2"}
# That a request may be under way, or wait for this busy machine to read it. As many
# requests as arrive in that time may seem to arrive at once.
JITTER_SECONDS = 0.5

_fakes: dict[str, FirstMessages] = {}  # by URL


@dataclass(slots=True)
class _Level:
    """The level of a leaky bucket that each request raises by one."""

    now: float = 0.0
    most: float = 0.0
    at: float = 0.0

    def note(self, at: float, tps: float) -> None:
        self.now = max(0.0, self.now - (at - self.at) * tps) + 1
        self.most = max(self.most, self.now)
        self.at = at


class FirstMessages:
    """The requests to one fake.

    In any time `t` a gateway may send `burst + tps * t` requests. So the level of
    a leaky bucket that each request raises by one, and that leaks `tps` a second, is at
    most `burst`, plus the requests in the time of the jitter.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin without requests."""
        self._clock = clock
        self._tps = self._burst = 0.0  # of all gateways that call the fake
        self._levels: defaultdict[str, _Level] = defaultdict(_Level)

    def allow(self, *, tps: float, burst: float) -> None:
        """Add the quota of one more gateway that calls the fake."""
        self._tps += tps
        self._burst += burst

    def note(self, account: str = "") -> None:
        """Note a request that is charged to `account`."""
        if self._tps:
            self._levels[account].note(self._clock(), self._tps)

    @property
    def excess(self) -> dict[str, float]:
        """Return the requests beyond the rate by account; empty if there are none."""
        allowed = self._burst + self._tps * JITTER_SECONDS
        return {
            account: level.most - allowed
            for account, level in self._levels.items()
            if level.most > allowed
        }


def noted_at(url: str) -> FirstMessages:
    """Note the requests to a fake at this URL from now on."""
    _fakes[url] = arrivals = FirstMessages()
    return arrivals


@contextmanager
def within_quota(url: str, environ: Mapping[str, str]) -> Iterator[None]:
    """Run a gateway with these settings and check its requests to the fake at `url`."""
    arrivals = _fakes.get(url)
    quota = DEFAULTS | environ
    if arrivals:
        arrivals.allow(
            tps=float(quota["GATEWAY_QUOTA__TPS"]),
            burst=float(quota["GATEWAY_QUOTA__BURST"]),
        )
    yield
    assert not (arrivals and arrivals.excess), (
        "more requests arrived than the quota allows"
    )
