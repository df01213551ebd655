"""The leases of a store in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class _Lease(NamedTuple):
    holder: str
    period_seconds: float


class Leases:
    """The holder of each lease."""

    def __init__(self) -> None:
        """Begin without leases."""
        self._leases: dict[str, _Lease] = {}

    def claim(
        self,
        name: str,
        *,
        replica: str,
        period_seconds: float,
        attached: frozenset[str],
    ) -> str:
        """Take or renew a lease, and return its holder; see `Store`.

        It is valid while its holder is in `attached`.
        """
        lease = self._leases.get(name)
        if (
            lease
            and lease.holder != replica
            and lease.holder in attached
            and lease.period_seconds <= period_seconds
        ):
            return lease.holder
        self._leases[name] = _Lease(replica, period_seconds)
        return replica

    def release(self, name: str, *, replica: str) -> bool:
        """Release a lease; return whether it was held."""
        lease = self._leases.get(name)
        if lease is None or lease.holder != replica:
            return False
        del self._leases[name]
        return True

    def held_by(self, replica: str) -> Sequence[str]:
        """Return the names of the leases that a replica has."""
        return [name for name, lease in self._leases.items() if lease.holder == replica]
