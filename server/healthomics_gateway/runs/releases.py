"""The leases that pollers leave: they are released in the background."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from healthomics_gateway.shared.store import StoreError

if TYPE_CHECKING:
    from healthomics_gateway.shared.replica import Replica

# Names that are kept while detached. A lease that isn't released only delays polls.
MAX_LEFT = 10_000


class OpenLease(Protocol):
    """The lease of a run that is watched here."""

    @property
    def is_failing(self) -> bool:
        """Return whether another replica may have it."""
        ...


class Releases:
    """Ends the subscriptions and the leases of names.

    What can't be ended because the store can't be reached is ended when the replica
    attaches.
    """

    def __init__(self, replica: Replica, leases: Mapping[str, OpenLease]) -> None:
        """Leave names in the store of `replica`; `leases` are those in use, by name."""
        self._replica = replica
        self._leases = leases
        self._ended: OrderedDict[str, bool] = OrderedDict()  # whether it may be held
        self._left: OrderedDict[str, bool] = OrderedDict()  # while it was detached
        self._leaving: asyncio.Task[None] | None = None
        replica.on_change(self._look)

    def leave(self, name: str, *, may_be_held: bool) -> None:
        """End the subscription and the lease of a name in the background.

        A lease in use keeps its subscription, and is released only if it is failing.
        """
        self._ended[name] = may_be_held or self._ended.get(name, False)
        if self._leaving is None:
            self._leaving = asyncio.create_task(self._leave_all())

    async def _leave_all(self) -> None:
        try:
            while self._ended:
                name, may_be_held = self._ended.popitem(last=False)
                await self._leave(name, may_be_held=may_be_held)
        finally:
            self._leaving = None

    async def _leave(self, name: str, *, may_be_held: bool) -> None:
        replica = self._replica
        if name not in self._leases:  # else a newer poller uses it
            await replica.unsubscribe(name)
        lease = self._leases.get(name)
        if may_be_held and (lease is None or lease.is_failing):
            with suppress(StoreError):
                await replica.ask(lambda store: store.release(name, replica=replica.id))
        if not replica.is_attached:
            self._left[name] = may_be_held
            if len(self._left) > MAX_LEFT:
                self._left.popitem(last=False)

    def _look(self) -> None:
        while self._left and self._replica.is_attached:
            name, may_be_held = self._left.popitem(last=False)
            self.leave(name, may_be_held=may_be_held)
