"""The replicas that a store in memory knows."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import NamedTuple

from healthomics_gateway.shared.store import ALIVE_SECONDS, FORGET_SECONDS


class _Member(NamedTuple):
    at: float  # of its last beat
    is_attached: bool


class Membership:
    """The last beat of each replica; `now` is the time in seconds."""

    def __init__(self) -> None:
        """Begin without replicas."""
        self._members: dict[str, _Member] = {}
        self._floor = (0, -inf)  # replicas that are expected at least, until a time

    def __contains__(self, replica: str) -> bool:
        """Return whether a replica is known, living or not."""
        return replica in self._members

    def beat(self, replica: str, now: float, *, is_attached: bool, known: int) -> None:
        """Note that a replica lives, and that it knows so many; see `Store`."""
        if not self._members:
            self._floor = (known, now + FORGET_SECONDS)
        self._members[replica] = _Member(now, is_attached)

    def leave(self, replica: str) -> None:
        """Forget a replica."""
        self._members.pop(replica, None)

    def outdated(self, now: float) -> Sequence[str]:
        """Return the replicas for which no share of the quota is kept any more."""
        since = now - FORGET_SECONDS
        return [name for name, member in self._members.items() if member.at <= since]

    def is_alive(
        self, replica: str, now: float, within_seconds: float = ALIVE_SECONDS
    ) -> bool:
        """Return whether a replica has beaten within a time."""
        member = self._members.get(replica)
        return member is not None and member.at > now - within_seconds

    def attached(
        self, now: float, within_seconds: float = ALIVE_SECONDS
    ) -> frozenset[str]:
        """Return the attached replicas that have beaten within a time."""
        return frozenset(
            replica
            for replica, member in self._members.items()
            if member.is_attached and self.is_alive(replica, now, within_seconds)
        )

    def expected(self, now: float) -> int:
        """Return the number of replicas that the quota is divided by; at least 1."""
        least, until = self._floor
        return max(len(self._members), least if now < until else 0, 1)
