"""The source of runs that selects a query's credentials: the gateway's, or a role's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from cachetools import LRUCache

if TYPE_CHECKING:
    from healthomics_gateway.runs.source import Answer, Call, Partition, RunQuery
    from healthomics_gateway.upstream.healthomics import HealthOmics
    from healthomics_gateway.upstream.provider import CredentialsProvider

MAX_SESSIONS = 1000  # one for each role and caller


class Roles:
    """Sends each query with the session of its role and caller, or without a role.

    The least recently used sessions are dropped. A session that a call uses is shared
    with other calls until that call ends.
    """

    def __init__(
        self,
        own: HealthOmics,
        *,
        provider: Callable[[Partition], CredentialsProvider],
        max_sessions: int = MAX_SESSIONS,
    ) -> None:
        """Use `own` without a role; `provider` creates the provider for a partition."""
        self._own = own
        self._provider = provider
        self._recent: LRUCache[Partition, HealthOmics] = LRUCache(max_sessions)
        self._used: WeakValueDictionary[Partition, HealthOmics] = WeakValueDictionary()

    async def get_run(self, query: RunQuery, *, call: Call) -> Answer:
        """Make one attempt."""
        return await self.session(query).get_run(query, call=call)

    def session(self, query: RunQuery) -> HealthOmics:
        """Return the source that signs for the query's partition."""
        partition = query.partition
        if not partition.role:
            return self._own
        session = self._recent.get(partition) or self._used.get(partition)
        if session is None:
            session = self._own.with_provider(self._provider(partition))
        self._recent[partition] = self._used[partition] = session
        return session

    async def close(self) -> None:
        """Stop the background tasks of the sessions."""
        await asyncio.gather(*(each.close() for each in self._used.values()))
