"""The answer cache, and the source that fills it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from cachetools import LRUCache

from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.telemetry.metrics.parts import NOTHING, Distribution

if TYPE_CHECKING:
    from healthomics.v1.run_pb2 import Run
    from healthomics_gateway.runs.source import Answer, Call, RunQuery, RunSource

# The memory that an answer takes: measured as 7.3 times the bytes of the encoded run
# for runs of 1 KB, and 4.6 times for runs of 15 KB.
FIXED_BYTES = 3072
BYTES_PER_ENCODED_BYTE = 4.5


def memory_of(run: Run) -> int:
    """Return the estimated bytes of memory that a run in the cache takes."""
    return FIXED_BYTES + round(BYTES_PER_ENCODED_BYTE * run.ByteSize())


class Cache:
    """The last answer to each query, up to `max_bytes` of memory in all.

    The answers to all queries for a run of a partition are one entry: they are evicted
    together, the least recently used run first, and removed when the run is gone.
    """

    def __init__(
        self,
        *,
        max_bytes: int,
        ages: Distribution = NOTHING,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Create an empty cache; `clock` measures the age of answers, in seconds.

        `ages` gets the age of each answer that is returned.
        """
        self._ages = ages
        self._clock = clock
        self._entries: LRUCache[RunQuery, dict[RunQuery, _Cached]] = LRUCache(
            max_bytes, getsizeof=lambda entry: sum(each.size for each in entry.values())
        )  # by `RunQuery.without_export`
        self.hits = self.misses = 0  # of look-ups that allow a cached answer

    def get(self, query: RunQuery, *, max_age_seconds: float) -> Answer | None:
        """Return the answer if it is at most `max_age_seconds` old, else `None`.

        With 0 it always returns `None`.
        """
        if not max_age_seconds:
            return None
        try:
            cached = self._entries[query.without_export][query]
        except KeyError:
            self.misses += 1
            return None
        age_seconds = self._clock() - cached.at
        if age_seconds > max_age_seconds:
            self.misses += 1
            return None
        self.hits += 1
        self._ages.observe(age_seconds)
        return cached.answer

    @property
    def runs(self) -> int:
        """The number of runs with cached answers."""
        return len(self._entries)

    @property
    def held_bytes(self) -> int:
        """The memory that all cached answers take."""
        return int(self._entries.currsize)

    @property
    def max_bytes(self) -> int:
        """The most that all cached answers may take."""
        return int(self._entries.maxsize)

    def put(self, query: RunQuery, answer: Answer, *, age_seconds: float = 0.0) -> None:
        """Keep an answer of this age, if it fits and there is no newer one."""
        at = self._clock() - age_seconds
        known = self._entries.get(query.without_export, {})
        if query in known and known[query].at > at:
            return
        new = {query: _Cached(answer, at, memory_of(answer.run))}
        entry = self._entries.pop(query.without_export, {}) | new
        for each in (entry, new):  # if all answers about the run don't fit, the newest
            if self._entries.getsizeof(each) <= self._entries.maxsize:
                self._entries[query.without_export] = each
                break

    def remove_run(self, query: RunQuery) -> None:
        """Remove the answers to all queries for the run, in the query's partition."""
        self._entries.pop(query.without_export, None)


class _Cached(NamedTuple):
    answer: Answer
    at: float  # when it was read, in seconds of the clock
    size: int  # bytes of memory


class AnswerSink(Protocol):
    """Anything that keeps the answers of fetches: the cache, or the shared store."""

    def put(self, query: RunQuery, answer: Answer) -> None:
        """Keep an answer that has just been read."""
        ...

    def remove_run(self, query: RunQuery) -> None:
        """Remove the answers to all queries for the run, in the query's partition."""
        ...


class Caching:
    """A source that puts each answer of the next one into all `sinks`.

    It never answers from there: RunService does, for requests that allow it.
    """

    def __init__(self, runs: RunSource, sinks: Sequence[AnswerSink]) -> None:
        """Wrap `runs`."""
        self._runs = runs
        self._sinks = sinks

    async def get_run(self, query: RunQuery, *, call: Call) -> Answer:
        """Return the next source's answer; remove a run that isn't found."""
        try:
            answer = await self._runs.get_run(query, call=call)
        except GatewayError as error:
            if error.reason is Reason.RUN_NOT_FOUND:
                for each in self._sinks:
                    each.remove_run(query)
            raise
        for each in self._sinks:
            each.put(query, answer)
        return answer
