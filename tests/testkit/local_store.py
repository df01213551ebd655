"""A `Store` of tests, whose state is in this process."""

from __future__ import annotations

from healthomics_gateway.shared.memory import MemoryStore
from healthomics_gateway.shared.store import (
    Claim,
    Deliver,
    Members,
    Permit,
    Rate,
    Reservation,
    Stored,
)


class LocalStore:
    """One replica's access to a `MemoryStore`; the methods are those of `Store`."""

    unreached = ""

    def __init__(self, memory: MemoryStore) -> None:
        """Use `memory`, which other replicas use too."""
        self._memory = memory
        self._names: set[str] = set()
        self._deliver: Deliver = lambda _name, _value: None

    def deliver_to(self, deliver: Deliver) -> None:
        """Call `deliver` for each value of the entries that are subscribed to."""
        self._deliver = deliver

    async def close(self) -> None:
        """End all subscriptions."""
        for name in tuple(self._names):
            await self.unsubscribe(name)

    async def beat(self, replica: str, *, is_attached: bool, known: int) -> Members:
        """Note that a replica lives."""
        return self._memory.beat(replica, is_attached=is_attached, known=known)

    async def leave(self, replica: str) -> None:
        """Forget a replica."""
        self._memory.leave(replica)

    async def reserve(self, quota: str, rate: Rate, *, replica: str) -> Reservation:
        """Take the next token of a quota."""
        return self._memory.reserve(quota, rate, replica=replica)

    async def cut(self, quota: str, rate: Rate) -> None:
        """Lower the rate of a quota."""
        self._memory.cut(quota, rate)

    async def take(self, bucket: str, rate: Rate, *, wanted: int) -> Permit:
        """Take at most `wanted` tokens of a caller's bucket."""
        return self._memory.take(bucket, rate, wanted=wanted)

    async def count(
        self, name: str, number: int, *, replica: str, limit: int | None
    ) -> bool:
        """Set how many a replica has of something."""
        return self._memory.count(name, number, replica=replica, limit=limit)

    async def read(self, name: str, field: str) -> Stored | None:
        """Return the value of a field of an entry."""
        return self._memory.read(name, field)

    async def write(
        self,
        name: str,
        field: str,
        value: bytes,
        *,
        age_seconds: float,
        keep_seconds: float,
    ) -> None:
        """Set a field of an entry, and publish the value."""
        self._memory.write(
            name, field, value, age_seconds=age_seconds, keep_seconds=keep_seconds
        )

    async def remove(self, name: str) -> None:
        """Remove an entry with all fields."""
        self._memory.remove(name)

    async def claim(
        self, name: str, field: str, *, replica: str, period_seconds: float
    ) -> Claim:
        """Take the lease of an entry, or renew it."""
        return self._memory.claim(
            name, field, replica=replica, period_seconds=period_seconds
        )

    async def release(self, name: str, *, replica: str) -> None:
        """Release a lease."""
        self._memory.release(name, replica=replica)

    async def subscribe(self, name: str) -> None:
        """Deliver the values of an entry from now on."""
        self._names.add(name)
        self._memory.subscribe(name, self._deliver)

    async def unsubscribe(self, name: str) -> None:
        """Deliver no more values of an entry."""
        self._names.discard(name)
        self._memory.unsubscribe(name, self._deliver)
