"""The interface of the store that replicas share.

Each method is atomic. Names are texts that `Sealer.name` has derived, so they show
neither runs nor callers. The store's own clock measures all times.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeAlias

ALIVE_SECONDS = 2.0  # after its last beat, until a replica counts as dead
FORGET_SECONDS = 10.0  # after its last beat, until no share of the quota is kept for it
PRESENT_SECONDS = 0.75  # after its last beat, until the others don't get its share
# After it was detached, until it uses its static share, and until a quota that isn't
# known has tokens: by then the store counts this replica as detached, and every other
# replica has noticed that the store was lost, and uses no token of it any more.
SETTLE_SECONDS = 0.8

# Gets the name of an entry, and a value that was written there; an empty one says that
# the lease of that name is free.
Deliver: TypeAlias = Callable[[str, bytes], None]


class StoreError(Exception):
    """The store hasn't done what it was asked; the text says why, to operators."""


class StoreFullError(StoreError):
    """The store takes no more values; what needs no memory still works."""


class Rate(NamedTuple):
    """A token bucket: tokens a second, and the most that it can have."""

    tps: float
    burst: float


class Reservation(NamedTuple):
    """A token of a quota."""

    wait_seconds: float  # until it may be used
    tps: float  # at which the replicas together get tokens at the moment
    is_other: bool = False  # the rate isn't the one that was asked for the last time


class Permit(NamedTuple):
    """The tokens that a caller got."""

    granted: int
    wait_seconds: float  # until there is one more, if none was granted


class Members(NamedTuple):
    """The replicas, as one of them sees them."""

    attached: frozenset[str]  # that live and use the store
    expected: int  # also those that use their static share, or have just died
    was_known: bool  # whether the store had this replica before


class Stored(NamedTuple):
    """A value and its age."""

    value: bytes
    age_seconds: float


class Claim(NamedTuple):
    """The replica that polls a run."""

    holder: str  # a replica; the one that has claimed it, if it may poll
    last: Stored | None  # the value of the entry, if another one polls


class Store(Protocol):
    """A store; every method raises StoreError if it fails."""

    @property
    def unreached(self) -> str:
        """Why no connection could be opened the last time; empty if one could."""
        ...

    def deliver_to(self, deliver: Deliver) -> None:
        """Call `deliver` for each value of the entries that `subscribe` has named."""
        ...

    async def close(self) -> None:
        """Close all connections; never raises."""
        ...

    async def beat(self, replica: str, *, is_attached: bool, known: int) -> Members:
        """Note that a replica lives, and whether it uses the store; return all.

        A store that knows no replica expects `known` of them for FORGET_SECONDS.
        """
        ...

    async def leave(self, replica: str) -> None:
        """Forget a replica: its leases, its counts and its share of the quota."""
        ...

    async def reserve(self, quota: str, rate: Rate, *, replica: str) -> Reservation:
        """Take the next token of a quota.

        The tokens arrive at the share of `rate` that the attached replicas are of the
        expected ones, and slower after `cut`; a replica that was silent for longer than
        PRESENT_SECONDS isn't attached. The same share of the burst can be saved, but
        at least one token. A quota that isn't known lacks the tokens of SETTLE_SECONDS.
        If replicas ask for different rates, they get about the lowest one together.
        It counts as a beat of an attached replica. Raises StoreError for a replica that
        the store doesn't know: it was wiped, and the replica has to attach again.
        """
        ...

    async def cut(self, quota: str, rate: Rate) -> None:
        """Lower the rate of a quota, once for all throttles within a second."""
        ...

    async def take(self, bucket: str, rate: Rate, *, wanted: int) -> Permit:
        """Take at most `wanted` tokens of a caller's bucket; one not known is full."""
        ...

    async def count(
        self, name: str, number: int, *, replica: str, limit: int | None
    ) -> bool:
        """Set how many a replica has of something; return whether that is possible.

        Nothing is set if the living replicas would have more than `limit` in all.
        """
        ...

    async def read(self, name: str, field: str) -> Stored | None:
        """Return the value of a field of an entry, unless it's larger than allowed."""
        ...

    async def write(
        self,
        name: str,
        field: str,
        value: bytes,
        *,
        age_seconds: float,
        keep_seconds: float,
    ) -> None:
        """Set a field of an entry, and publish the value to the entry's subscribers."""
        ...

    async def remove(self, name: str) -> None:
        """Remove an entry with all fields."""
        ...

    async def claim(
        self, name: str, field: str, *, replica: str, period_seconds: float
    ) -> Claim:
        """Take the lease of an entry, or renew it, for polls every `period_seconds`.

        Another attached replica keeps it, unless that one polls less often.
        """
        ...

    async def release(self, name: str, *, replica: str) -> None:
        """Release a lease; publish an empty value, so that another takes it."""
        ...

    async def subscribe(self, name: str) -> None:
        """Deliver the values of an entry from now on."""
        ...

    async def unsubscribe(self, name: str) -> None:
        """Deliver no more values of an entry."""
        ...
