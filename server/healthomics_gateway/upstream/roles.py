"""The source that asks HealthOmics as whom each query says: itself, or a role."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from cachetools import LRUCache

if TYPE_CHECKING:
    from healthomics_gateway.runs.source import Answer, Call, Partition, RunQuery
    from healthomics_gateway.upstream.healthomics import HealthOmics
    from healthomics_gateway.upstream.identity import Identity

MAX_SESSIONS = 1000  # that are kept, one for each role and caller


class Roles:
    """Asks HealthOmics, for each role and caller with credentials of their own.

    The sessions that were used longest ago go first. A session that some call keeps is
    found by the others as long as the call lasts.
    """

    def __init__(
        self,
        own: HealthOmics,
        *,
        identity: Callable[[Partition], Identity],
        max_sessions: int = MAX_SESSIONS,
    ) -> None:
        """Ask `own` without a role; `identity` makes that of a role and caller."""
        self._own = own
        self._identity = identity
        self._recent: LRUCache[Partition, HealthOmics] = LRUCache(max_sessions)
        self._used: WeakValueDictionary[Partition, HealthOmics] = WeakValueDictionary()

    async def get_run(self, query: RunQuery, *, call: Call) -> Answer:
        """Make one attempt."""
        return await self.session(query).get_run(query, call=call)

    def session(self, query: RunQuery) -> HealthOmics:
        """Return HealthOmics as those see it who ask in the query's partition."""
        partition = query.partition
        if not partition.role:
            return self._own
        session = self._recent.get(partition) or self._used.get(partition)
        if session is None:
            session = self._own.under(self._identity(partition))
        self._recent[partition] = self._used[partition] = session
        return session

    async def close(self) -> None:
        """End what goes on in the background."""
        await asyncio.gather(*(each.close() for each in self._used.values()))
