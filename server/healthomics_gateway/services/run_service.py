"""RunService: a request becomes a query, the answer becomes the response."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from math import inf
from typing import Any

from grpc.aio import ServicerContext

from healthomics.v1.run_pb2 import Run
from healthomics.v1.run_service_pb2 import (
    GetRunRequest,
    WatchRunRequest,
    WatchRunResponse,
)
from healthomics.v1.run_service_pb2_grpc import RunServiceServicer
from healthomics_gateway.auth.policy import Access, access
from healthomics_gateway.errors.reasons import (
    GatewayError,
    Reason,
    ends,
    facts,
    remembered,
)
from healthomics_gateway.runs.field_mask import ALL, Selection
from healthomics_gateway.runs.source import (
    Answer,
    Caller,
    OneCall,
    RunQuery,
    RunSource,
    caller,
)
from healthomics_gateway.runs.watch import HEARTBEAT, Reader, Watches
from healthomics_gateway.services.validation import check_get, check_watch, seconds_of
from healthomics_gateway.threads import retrieve

MIN_DEADLINE_SECONDS = 0.01  # no answer of HealthOmics takes less
# A refusal about a run leaves at a multiple of this time after its call. Reading a run
# takes the gateway time that a missing one doesn't: less than half of this for 1 MiB.
REFUSAL_SECONDS = 0.5


def nothing(_query: RunQuery, _max_staleness_seconds: float) -> None:
    """Remember nothing."""


class RunService(RunServiceServicer):
    """Answers calls from one source of runs."""

    def __init__(
        self,
        runs: RunSource,
        *,
        watches: Watches,
        recent: Callable[[RunQuery, float], Answer | None] = nothing,
        default_deadline_seconds: float,
        max_deadline_seconds: float = inf,
        max_staleness_seconds: float = 0.0,
        max_staleness_limit_seconds: float = 0.0,
        min_interval_seconds: float = 1.0,
        max_stream_seconds: float = 600.0,
        withheld: frozenset[str] = frozenset(),
        refusal_seconds: float = REFUSAL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Ask `runs`, unless `recent` has an answer at most so many seconds old.

        A call without a deadline has `default_deadline_seconds`, and none has longer
        than `max_deadline_seconds`. A request that doesn't say how old an answer may be
        gets one of `max_staleness_seconds`, none an older one than the limit. A watch
        of `watches` lasts at most `max_stream_seconds` and can't ask for a shorter
        period than `min_interval_seconds`. `withheld` are AWS's names of members that
        nobody receives. A caller that may not see a run is refused at a multiple of
        `refusal_seconds` after its call.
        """
        self._runs = runs
        self._recent = recent
        self._default_deadline_seconds = default_deadline_seconds
        self._max_deadline_seconds = max_deadline_seconds
        self._max_staleness_seconds = max_staleness_seconds
        self._max_staleness_limit_seconds = max_staleness_limit_seconds
        self._watches = watches
        self._min_interval_seconds = min_interval_seconds
        self._max_stream_seconds = max_stream_seconds
        self._withheld = withheld
        self._refusal_seconds = refusal_seconds
        self._whole: dict[frozenset[str], Selection] = {}  # by what a rule withholds
        self._clock = clock

    async def GetRun(  # noqa: N802  # gRPC's own name of the method
        self, request: GetRunRequest, context: ServicerContext[GetRunRequest, Run]
    ) -> Run:
        """Return one run as HealthOmics knows it (AIP-131)."""
        allowed = access.get()
        query, selection = self._accept(request, allowed)
        staleness_seconds = self._staleness_seconds(request)
        answer = self._recent(query, staleness_seconds) if staleness_seconds else None
        if answer is None or not allowed.sees(answer.run):
            # A caller that may not see it is refused as late as for a missing run.
            return selection.of((await self._ask(query, allowed, context)).run)
        facts.set({"runId": query.id, "awsRequestId": answer.request_id})
        remembered.set(True)
        return selection.of(answer.run)

    async def _ask(
        self, query: RunQuery, allowed: Access, context: ServicerContext[Any, Any]
    ) -> Answer:
        """Ask HealthOmics for a run that the caller may see."""
        begun = self._clock()
        own_seconds = context.time_remaining()
        is_own = own_seconds is not None and own_seconds <= self._max_deadline_seconds
        seconds = self._default_deadline_seconds
        if own_seconds is not None:
            seconds = min(own_seconds, self._max_deadline_seconds)
        call = OneCall(
            begun + seconds,
            caller=caller.get(),
            facts={"runId": query.id},
        )
        facts.set(call.facts)
        if seconds < MIN_DEADLINE_SECONDS:
            raise GatewayError(Reason.DEADLINE_TOO_SHORT)
        try:
            async with (
                asyncio.timeout(seconds) as limit,
                self._refusals(allowed, begun),
            ):
                answer = await self._runs.get_run(query, call=call)
                call.facts["awsRequestId"] = answer.request_id
                allowed.check(answer.run)
        except TimeoutError:
            if not limit.expired():
                raise
            reason = Reason.CALLER_DEADLINE if is_own else Reason.SERVER_DEADLINE
            raise GatewayError(reason) from None
        return answer

    @asynccontextmanager
    async def _refusals(self, allowed: Access, begun: float) -> AsyncIterator[None]:
        """Raise what the caller learns of a failure, at a time that says no more.

        What it has taken to read a run, or to try again, would show that it exists. If
        the call's deadline ends the wait, it is the answer in each case.
        """
        try:
            yield
        except GatewayError as error:
            told = allowed.told(error)
            if told.reason is Reason.CALLER_NOT_AUTHORIZED:
                step = self._refusal_seconds
                await asyncio.sleep(step - (self._clock() - begun) % step)
            raise told from None

    async def WatchRun(  # noqa: N802  # gRPC's own name of the method
        self,
        request: WatchRunRequest,
        context: ServicerContext[WatchRunRequest, WatchRunResponse],
    ) -> AsyncIterator[Any]:
        """Yield encoded responses that follow one run to its end."""
        check_watch(request)
        known = {"runId": request.id}
        facts.set(known)
        own_seconds, seconds = context.time_remaining(), self._max_stream_seconds
        is_own = own_seconds is not None and own_seconds < seconds
        if own_seconds is not None:
            seconds = min(seconds, own_seconds)
        if seconds < MIN_DEADLINE_SECONDS:
            raise GatewayError(Reason.DEADLINE_TOO_SHORT)
        ends.set(self._clock() + seconds)  # for writes too, which wait for the client
        allowed, begun, first = access.get(), self._clock(), None
        query = RunQuery(request.id, partition=allowed.partition)
        try:
            if allowed.is_bound:
                look = self._look(query, allowed, begun, seconds, known)
                looking = asyncio.create_task(look)
                beats = _beats(looking, _heartbeat_seconds(request))
                async with aclosing(beats):
                    async for beat in beats:
                        yield beat
                first = looking.result()
            with self._watch(request, query, allowed, first, begun + seconds) as reader:
                while (body := await reader.next(known)) is not None:
                    yield body
        except TimeoutError:
            reason = Reason.CALLER_DEADLINE if is_own else Reason.WATCH_RENEW
            raise GatewayError(reason) from None
        except GatewayError as error:
            raise allowed.told(error) from None

    async def _look(
        self,
        query: RunQuery,
        allowed: Access,
        begun: float,
        seconds: float,
        known: dict[str, str],
    ) -> Answer:
        """Return the run by a fetch of the watch's own, or raise TimeoutError.

        A caller that may see only some runs begins with it: every refusal follows a
        fetch that was sent after the call, whoever watches the run already.
        """
        who = Caller(caller.get().name, query.id)
        call = OneCall(begun + seconds, caller=who, is_poll=True)
        try:
            async with asyncio.timeout(seconds), self._refusals(allowed, begun):
                first = await self._watches.look(query, call=call, hides=allowed.hides)
                allowed.check(first.run)
        except GatewayError:
            known |= call.facts
            raise
        return first

    def _watch(
        self,
        request: WatchRunRequest,
        query: RunQuery,
        allowed: Access,
        first: Answer | None,
        end: float,
    ) -> Reader:
        """Return a reader of what the caller may see, until `end`."""
        return self._watches.watch(
            query,
            first=first,
            allows=allowed.sees,
            selection=self._selection(request, allowed),
            name=caller.get().name,
            uuid=request.uuid,
            period_seconds=self._period_seconds(request),
            heartbeat_seconds=_heartbeat_seconds(request),
            seconds=end - self._clock(),
        )

    def _accept(
        self, request: GetRunRequest, allowed: Access
    ) -> tuple[RunQuery, Selection]:
        """Check every rule of the contract; tell all faults at once."""
        check_get(request)
        export = tuple(sorted(set(request.export))) if request.export else ()
        query = RunQuery(request.id, export, allowed.partition)
        return query, self._selection(request, allowed)

    def _period_seconds(self, request: WatchRunRequest) -> float | None:
        seconds = seconds_of(request.min_interval)
        return max(seconds, self._min_interval_seconds) if seconds else None

    def _staleness_seconds(self, request: GetRunRequest) -> float:
        if not request.HasField("max_staleness"):
            return self._max_staleness_seconds
        seconds = seconds_of(request.max_staleness)
        return min(seconds, self._max_staleness_limit_seconds)

    def _selection(
        self, request: GetRunRequest | WatchRunRequest, allowed: Access
    ) -> Selection:
        withheld = allowed.rule.withhold
        if not request.HasField("read_mask"):
            whole = self._whole.get(withheld)
            if whole is None:
                whole = Selection(withheld=self._withheld | withheld)
                self._whole[withheld] = whole
            return whole
        paths = frozenset(request.read_mask.paths)
        asked = None if ALL in paths else paths or None
        return Selection(asked, self._withheld | withheld)


def _heartbeat_seconds(request: WatchRunRequest) -> float | None:
    if not request.HasField("heartbeat_interval"):
        return None
    return seconds_of(request.heartbeat_interval)


async def _beats(
    looking: asyncio.Task[Answer], seconds: float | None
) -> AsyncGenerator[bytes, None]:
    """Yield a heartbeat each so many seconds while a watch's first fetch goes on.

    Closing the generator cancels the fetch.
    """
    looking.add_done_callback(retrieve)
    try:
        while not (await asyncio.wait([looking], timeout=seconds))[0]:
            yield HEARTBEAT
    finally:
        looking.cancel()
