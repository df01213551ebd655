"""The source that asks HealthOmics as whom each query says: itself, or a role."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cachetools import LRUCache

if TYPE_CHECKING:
    from healthomics_gateway.runs import Answer, Call, Partition, RunQuery, RunSource
    from healthomics_gateway.upstream.healthomics import HealthOmics
    from healthomics_gateway.upstream.identity import Identity

MAX_SESSIONS = 1000  # that are kept, one for each role and caller


class Roles:
    """Asks HealthOmics, for each role and caller with credentials of their own.

    The sessions that were used longest ago go first; who is using one keeps it.
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
        self._sessions: LRUCache[Partition, _Session] = LRUCache(max_sessions)

    async def get_run(self, query: RunQuery, *, call: Call) -> Answer:
        """Make one attempt."""
        if not query.partition.role:
            return await self._own.get_run(query, call=call)
        return await self._session(query.partition).runs.get_run(query, call=call)

    async def ready(self, partition: Partition) -> None:
        """Wait until there is a session, or raise why there is none."""
        if partition.role:
            await self._session(partition).identity.credentials()

    async def close(self) -> None:
        """End what goes on in the background."""
        sessions = list(self._sessions.values())
        await asyncio.gather(*(each.identity.close() for each in sessions))

    def _session(self, partition: Partition) -> _Session:
        session = self._sessions.get(partition)
        if session is None:
            identity = self._identity(partition)
            session = _Session(identity, self._own.under(identity))
            self._sessions[partition] = session
        return session


@dataclass(frozen=True, slots=True)
class _Session:
    """A role that is assumed for a caller, and HealthOmics as it sees them."""

    identity: Identity
    runs: RunSource


class Assuming:
    """Asks once there is a session: who waits for STS takes nobody's place."""

    def __init__(self, runs: RunSource, roles: Roles) -> None:
        """Wrap `runs`, which ask `roles` in the end."""
        self._runs = runs
        self._roles = roles

    async def get_run(self, query: RunQuery, *, call: Call) -> Answer:
        """Wait for the session, then ask."""
        await self._roles.ready(query.partition)
        return await self._runs.get_run(query, call=call)
