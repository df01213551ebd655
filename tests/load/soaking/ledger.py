"""Records what was served about each run, when, and its allowed results."""

from __future__ import annotations

import math
from collections import Counter, defaultdict, deque
from dataclasses import dataclass

KEPT_SECONDS = 60.0  # no call lasts as long


@dataclass(frozen=True, slots=True)
class Served:
    """One answer of the upstream: the truth or a fault."""

    at: float  # seconds of the monotonic clock, before its first byte left
    request_id: str  # AWS's; empty where the answer has none
    text: str | None = None  # the truth, as it was sent
    reasons: frozenset[str] = frozenset()  # the reasons that a fault may become
    lasts_seconds: float = 0.0  # at most, as far as it delays the gateway's attempt


class Ledger:
    """Remembers what was served for as long as a call may last."""

    def __init__(self) -> None:
        """Begin with nothing served."""
        self._served: defaultdict[str, deque[Served]] = defaultdict(deque)
        self._outages: deque[tuple[float, float]] = deque()
        self._stalls: deque[tuple[float, float]] = deque()
        self._last_of: dict[str, float] = {}  # a reason: when it was last served
        self.truths = 0
        self.faults: Counter[int] = Counter()  # by the fault's number

    def serve(self, run_id: str, served: Served, *, fault: int = 0) -> None:
        """Record an answer about a run; `fault` is its number, 0 for the truth."""
        kept = self._served[run_id]
        while kept and kept[0].at < served.at - KEPT_SECONDS:
            kept.popleft()
        kept.append(served)
        self._last_of |= dict.fromkeys(served.reasons, served.at)
        if fault:
            self.faults[fault] += 1
        else:
            self.truths += 1

    def outage(self, begun: float, ended: float = math.inf) -> None:
        """Record the time of an outage of the upstream, and again when it has ended."""
        if self._outages and self._outages[-1][0] == begun:
            self._outages.pop()
        _keep(self._outages, begun, ended)

    def stall(self, begun: float, ended: float) -> None:
        """Record when this program was delayed, so that its times aren't reliable."""
        _keep(self._stalls, begun, ended)

    def served(self, run_id: str, begun: float, ended: float) -> list[Served]:
        """Return what was served about a run between two times."""
        kept = self._served.get(run_id, ())
        return [each for each in kept if begun <= each.at <= ended]

    def last_of(self, reason: str) -> float:
        """Return when a fault was last served that may become a reason."""
        return self._last_of.get(reason, -math.inf)

    def had_outage(self, begun: float, ended: float) -> bool:
        """Return whether a connection may have found the upstream closed."""
        return _touches(self._outages, begun, ended)

    def had_stall(self, begun: float, ended: float) -> bool:
        """Return whether times between the two aren't reliable."""
        return _touches(self._stalls, begun, ended)


def _keep(spans: deque[tuple[float, float]], begun: float, ended: float) -> None:
    while spans and spans[0][1] < begun - KEPT_SECONDS:
        spans.popleft()
    spans.append((begun, ended))


def _touches(spans: deque[tuple[float, float]], begun: float, ended: float) -> bool:
    return any(first <= ended and last >= begun for first, last in spans)
