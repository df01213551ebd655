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
from healthomics_gateway.auth.policy import Access
from healthomics_gateway.context import CallContext, current_call
from healthomics_gateway.errors.exceptions import AwsAnswer, GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.runs.cache import Cache
from healthomics_gateway.runs.field_mask import ALL, Selection
from healthomics_gateway.runs.source import (
    Answer,
    Caller,
    OneCall,
    RunQuery,
    RunSource,
    UpstreamInfo,
)
from healthomics_gateway.runs.subscription import HEARTBEAT, Subscription
from healthomics_gateway.runs.watch import Watches
from healthomics_gateway.services.validation import (
    check_get,
    check_watch,
    is_run_id,
    seconds_of,
)
from healthomics_gateway.threads import retrieve

MIN_DEADLINE_SECONDS = 0.01  # no answer of HealthOmics takes less
# A refusal about a run leaves at a multiple of this time after its call. Reading a run
# takes the gateway time that a missing one doesn't: less than half of this for 1 MiB.
REFUSAL_SECONDS = 0.5


class RunService(RunServiceServicer):
    """Answers calls from one source of runs."""

    def __init__(
        self,
        runs: RunSource,
        *,
        watches: Watches,
        cache: Cache | None = None,
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
        """Ask `runs`, unless `cache` has an answer that is recent enough.

        A call without a deadline has `default_deadline_seconds`, and none has longer
        than `max_deadline_seconds`. A request that doesn't say how old an answer may be
        gets one of `max_staleness_seconds`, none an older one than the limit. A watch
        of `watches` lasts at most `max_stream_seconds` and can't ask for a shorter
        period than `min_interval_seconds`. `withheld` are AWS's names of members that
        nobody receives. A caller that may not see a run is refused at a multiple of
        `refusal_seconds` after its call.
        """
        self._runs = runs
        self._cache = cache or Cache(max_bytes=0)
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
        self, request: GetRunRequest, _context: ServicerContext[GetRunRequest, Run]
    ) -> Run:
        """Return one run as HealthOmics knows it (AIP-131)."""
        call = current_call()
        query, selection = self._accept(request, call)
        max_age_seconds = self._staleness_seconds(request)
        answer = self._cache.get(query, max_age_seconds=max_age_seconds)
        if answer is None or not call.access.sees(answer.run):
            # A caller that may not see it is refused as late as for a missing run.
            return selection.of((await self._ask(query, call)).run)
        call.upstream = UpstreamInfo(answer=AwsAnswer(answer.request_id))
        call.is_from_cache = True
        return selection.of(answer.run)

    async def _ask(self, query: RunQuery, call: CallContext) -> Answer:
        """Return a run from HealthOmics that the caller may see."""
        begun = self._clock()
        own_seconds = call.rpc.time_remaining()
        is_own = own_seconds is not None and own_seconds <= self._max_deadline_seconds
        seconds = self._default_deadline_seconds
        if own_seconds is not None:
            seconds = min(own_seconds, self._max_deadline_seconds)
        if seconds < MIN_DEADLINE_SECONDS:
            raise GatewayError(Reason.DEADLINE_TOO_SHORT)
        asked = OneCall(begun + seconds, caller=call.caller)
        try:
            async with (
                asyncio.timeout(seconds) as limit,
                self._refusals(call, begun),
            ):
                answer = await self._runs.get_run(query, call=asked)
                call.access.check(answer.run)
        except TimeoutError:
            if not limit.expired():
                raise
            reason = Reason.CALLER_DEADLINE if is_own else Reason.SERVER_DEADLINE
            raise GatewayError(reason) from None
        finally:
            call.upstream = asked.upstream
        return answer

    @asynccontextmanager
    async def _refusals(self, call: CallContext, begun: float) -> AsyncIterator[None]:
        """Raise what the caller receives of a failure, at a time that says no more.

        What it has taken to read a run, or to try again, would show that it exists. If
        the call's deadline ends the wait, it is the answer in each case.
        """
        try:
            yield
        except GatewayError as error:
            received = call.received(error)
            if received.reason is Reason.CALLER_NOT_AUTHORIZED:
                step = self._refusal_seconds
                await asyncio.sleep(step - (self._clock() - begun) % step)
            raise received from None

    async def WatchRun(  # noqa: N802  # gRPC's own name of the method
        self,
        request: WatchRunRequest,
        _context: ServicerContext[WatchRunRequest, WatchRunResponse],
    ) -> AsyncIterator[Any]:
        """Yield encoded responses that follow one run to its end."""
        call = current_call()
        _accept_id(request, call)
        check_watch(request)
        own_seconds, seconds = call.rpc.time_remaining(), self._max_stream_seconds
        is_own = own_seconds is not None and own_seconds < seconds
        if own_seconds is not None:
            seconds = min(seconds, own_seconds)
        if seconds < MIN_DEADLINE_SECONDS:
            raise GatewayError(Reason.DEADLINE_TOO_SHORT)
        begun, first = self._clock(), None
        call.end = begun + seconds  # for writes too, which wait for the client
        query = RunQuery(request.id, partition=call.access.partition)
        try:
            if call.access.is_bound:
                looking = asyncio.create_task(self._look(query, call, begun, seconds))
                beats = _beats(looking, _heartbeat_seconds(request))
                async with aclosing(beats):
                    async for beat in beats:
                        yield beat
                first = looking.result()
            with self._watch(request, query, call, first) as subscription:
                try:
                    while (body := await subscription.next()) is not None:
                        yield body
                except GatewayError:
                    call.upstream = subscription.upstream
                    raise
        except TimeoutError:
            reason = Reason.CALLER_DEADLINE if is_own else Reason.WATCH_RENEW
            raise GatewayError(reason) from None
        except GatewayError as error:
            raise call.received(error) from None

    async def _look(
        self, query: RunQuery, call: CallContext, begun: float, seconds: float
    ) -> Answer:
        """Return the run by a fetch of the watch's own, or raise TimeoutError.

        A caller that may see only some runs begins with it: every refusal follows a
        fetch that was sent after the call, whoever watches the run already.
        """
        who = Caller(call.caller.name, query.id)
        asked = OneCall(begun + seconds, caller=who, is_poll=True)
        allowed = call.access
        try:
            async with asyncio.timeout(seconds), self._refusals(call, begun):
                first = await self._watches.look(query, call=asked, hides=allowed.hides)
                allowed.check(first.run)
        except GatewayError:
            call.upstream = asked.upstream
            raise
        return first

    def _watch(
        self,
        request: WatchRunRequest,
        query: RunQuery,
        call: CallContext,
        first: Answer | None,
    ) -> Subscription:
        """Return a subscription to what the caller may see, until the call's end."""
        return self._watches.watch(
            query,
            first=first,
            allows=call.access.sees,
            selection=self._selection(request, call.access),
            name=call.caller.name,
            uuid=request.uuid,
            period_seconds=self._period_seconds(request),
            heartbeat_seconds=_heartbeat_seconds(request),
            seconds=call.end - self._clock(),
        )

    def _accept(
        self, request: GetRunRequest, call: CallContext
    ) -> tuple[RunQuery, Selection]:
        """Check every rule of the contract; raise INVALID_REQUEST with all faults."""
        _accept_id(request, call)
        check_get(request)
        export = tuple(sorted(set(request.export))) if request.export else ()
        query = RunQuery(request.id, export, call.access.partition)
        return query, self._selection(request, call.access)

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


def _accept_id(request: GetRunRequest | WatchRunRequest, call: CallContext) -> None:
    """Note the id of the run, whatever else is wrong with the request."""
    if is_run_id(request.id):
        call.run_id = request.id


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
