"""When a replica beats, and when it attaches after it was detached."""

from __future__ import annotations

import random
from collections.abc import Callable
from math import inf

BEAT_SECONDS = 0.5  # between two beats while attached
MIN_PROBE_SECONDS, MAX_PROBE_SECONDS = 0.1, 1.0  # between two beats while detached
MAX_PROBES = 10  # that are counted
# Until a store that isn't reached after a start is reported: the reason is known when
# the first connection has failed, which can take 3 s.
LATE_PROBES = 9
# A store that answers beats, but fails other commands, would never let calls use the
# static share. So a replica whose attachments are short attaches less often.
STEADY_SECONDS, MAX_HELD_SECONDS = 5.0, 10.0


class Pace:
    """The pauses between beats, and the time until which a replica doesn't attach."""

    def __init__(self, jitter: Callable[[], float] = random.random) -> None:
        """Begin with a beat at once; `jitter` draws from [0, 1)."""
        self._jitter = jitter
        self._probes = 0  # in a row that have failed
        self._short = 0  # attachments in a row that were short
        self._held_until = -inf

    @property
    def is_late(self) -> bool:
        """Return whether the store hasn't answered for some seconds."""
        return self._probes >= LATE_PROBES

    def answered(self) -> float:
        """Note that the store has answered; return the seconds until the next beat."""
        self._probes = 0
        return BEAT_SECONDS

    def failed(self) -> float:
        """Note that a beat has failed; return the seconds until the next one."""
        pause = min(MIN_PROBE_SECONDS * 2.0**self._probes, MAX_PROBE_SECONDS)
        self._probes = min(self._probes + 1, MAX_PROBES)
        return pause * (0.5 + self._jitter() / 2)  # not all replicas at once

    def may_attach(self, now: float) -> bool:
        """Return whether the last attachments allow another one."""
        return now >= self._held_until

    def detached(self, now: float, *, lasted: float) -> None:
        """Note that an attachment has ended, and how many seconds it lasted."""
        self._short = self._short + 1 if lasted < STEADY_SECONDS else 0
        if self._short > 1:
            self._held_until = now + min(2.0**self._short, MAX_HELD_SECONDS)
