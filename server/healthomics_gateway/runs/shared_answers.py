"""The answers that replicas share through a store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from healthomics_gateway.shared.store import StoreError
from healthomics_gateway.telemetry.metrics.parts import NOTHING

if TYPE_CHECKING:
    from healthomics_gateway.runs.answer_values import AnswerValues, Dated
    from healthomics_gateway.runs.cache import Cache
    from healthomics_gateway.runs.source import Answer, RunQuery
    from healthomics_gateway.shared.replica import Replica
    from healthomics_gateway.telemetry.metrics.parts import Count, Distribution

MAX_WRITES = 64  # under way; they have up to 16 MiB
# A watch that begins at another replica needs the last value too.
MIN_KEEP_SECONDS = 60.0


class OtherAnswers(Protocol):
    """The answers that other replicas have read."""

    async def find(self, query: RunQuery, *, max_age_seconds: float) -> Answer | None:
        """Return an answer of at most this age, or None; with 0 always None."""
        ...


class NoOtherAnswers:
    """What a gateway has that shares nothing."""

    async def find(self, query: RunQuery, *, max_age_seconds: float) -> Answer | None:  # noqa: ARG002  # the shape of OtherAnswers
        """Return None."""
        return None


class SharedAnswers:
    """Writes the answers of this replica into the store, and finds those of others.

    Writes are made in the background. If MAX_WRITES are under way, or the replica is
    detached, or the store is full, an answer isn't written.
    """

    def __init__(
        self,
        replica: Replica,
        values: AnswerValues,
        cache: Cache,
        *,
        max_age_seconds: float,
        found: Count = NOTHING,
        ages: Distribution = NOTHING,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Keep what is found in `cache`; no request accepts older answers than that.

        `found` counts the look-ups that found an answer, `ages` gets its age.
        """
        self._replica = replica
        self._values = values
        self._cache = cache
        self._keep_seconds = max(max_age_seconds, MIN_KEEP_SECONDS)
        self._found = found
        self._ages = ages
        self._clock = clock
        self._writes: set[asyncio.Task[None]] = set()
        self._lookups: dict[RunQuery, asyncio.Task[Dated | None]] = {}

    async def find(self, query: RunQuery, *, max_age_seconds: float) -> Answer | None:
        """Return an answer of at most this age from the store, or None.

        With 0 it always returns None, and doesn't look. Calls with equal queries that
        come during a look-up share it. It ends within COMMAND_SECONDS, never raises.
        """
        if not max_age_seconds or not self._replica.is_attached:
            return None
        lookup = self._lookups.get(query)
        if lookup is None:
            lookup = asyncio.create_task(self._look_up(query))
            self._lookups[query] = lookup
        dated = await asyncio.shield(lookup)
        if dated is None or dated.age_seconds > max_age_seconds:
            return None
        self._found.inc()
        self._ages.observe(dated.age_seconds)
        return dated.answer

    async def _look_up(self, query: RunQuery) -> Dated | None:
        name, field = self._values.name(query), self._values.field(query)
        begun = self._clock()
        try:
            if name is None:
                return None
            stored = await self._replica.ask(lambda store: store.read(name, field))
        except StoreError:
            return None
        finally:
            del self._lookups[query]
        if stored is None:
            return None
        stored_seconds = stored.age_seconds + self._clock() - begun
        value = stored.value
        dated = self._values.decode(query, value, stored_seconds=stored_seconds)
        if dated:
            self._cache.put(query, dated.answer, age_seconds=dated.age_seconds)
        return dated

    def put(self, query: RunQuery, answer: Answer) -> None:
        """Write an answer that has just been read, and so publish it."""
        if not self._can_write:
            return
        name, field = self._values.name(query), self._values.field(query)
        value = self._values.encode(query, answer)
        if name is None or value is None:
            return
        read_at = self._clock()
        self._begin(
            self._replica.write(
                lambda store: store.write(
                    name,
                    field,
                    value,
                    age_seconds=self._clock() - read_at,
                    keep_seconds=self._keep_seconds,
                )
            )
        )

    def remove_run(self, query: RunQuery) -> None:
        """Remove the answers to all queries for the run, in the query's partition."""
        name = self._values.name(query)
        if self._can_write and name is not None:
            self._begin(self._replica.ask(lambda store: store.remove(name)))

    @property
    def _can_write(self) -> bool:
        return self._replica.is_attached and len(self._writes) < MAX_WRITES

    def _begin(self, work: Awaitable[None]) -> None:
        task = asyncio.create_task(_tried(work))
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)


async def _tried(work: Awaitable[None]) -> None:
    with suppress(StoreError):  # the replica counts it
        await work
