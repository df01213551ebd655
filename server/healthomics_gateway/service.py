"""RunService: a request becomes a query, the answer becomes the response."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

from grpc.aio import ServicerContext

from healthomics.v1.run_pb2 import Run
from healthomics.v1.run_service_pb2 import (
    GetRunRequest,
    WatchRunRequest,
    WatchRunResponse,
)
from healthomics.v1.run_service_pb2_grpc import RunServiceServicer
from healthomics_gateway.errors import GatewayError, Reason, facts
from healthomics_gateway.requests import check_get, check_watch, seconds_of
from healthomics_gateway.runs import Answer, Caller, OneCall, RunQuery, RunSource
from healthomics_gateway.selection import ALL, Selection
from healthomics_gateway.watch import Watches

MIN_DEADLINE_SECONDS = 0.01  # no answer of HealthOmics takes less


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
        max_staleness_seconds: float = 0.0,
        max_staleness_limit_seconds: float = 0.0,
        min_interval_seconds: float = 1.0,
        max_stream_seconds: float = 600.0,
        withheld: frozenset[str] = frozenset(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Ask `runs`, unless `recent` has an answer at most so many seconds old.

        Who doesn't say how old an answer may be gets one of `max_staleness_seconds`,
        nobody an older one than the limit. A watch of `watches` lasts at most
        `max_stream_seconds` and can't ask for a shorter period than
        `min_interval_seconds`. `withheld` are AWS's names of members that nobody
        receives.
        """
        self._runs = runs
        self._recent = recent
        self._default_deadline_seconds = default_deadline_seconds
        self._max_staleness_seconds = max_staleness_seconds
        self._max_staleness_limit_seconds = max_staleness_limit_seconds
        self._watches = watches
        self._min_interval_seconds = min_interval_seconds
        self._max_stream_seconds = max_stream_seconds
        self._withheld = withheld
        self._all = Selection(withheld=withheld)
        self._clock = clock

    async def GetRun(  # noqa: N802  # gRPC's own name of the method
        self, request: GetRunRequest, context: ServicerContext[GetRunRequest, Run]
    ) -> Run:
        """Return one run as HealthOmics knows it (AIP-131)."""
        query, selection = self._accept(request)
        staleness_seconds = self._staleness_seconds(request)
        answer = self._recent(query, staleness_seconds) if staleness_seconds else None
        if answer is None:
            return selection.of((await self._ask(query, context)).run)
        facts.set({"runId": query.id, "awsRequestId": answer.request_id})
        return selection.of(answer.run)

    async def _ask(
        self, query: RunQuery, context: ServicerContext[GetRunRequest, Run]
    ) -> Answer:
        own_seconds = context.time_remaining()
        seconds = self._default_deadline_seconds if own_seconds is None else own_seconds
        call = OneCall(
            self._clock() + seconds,
            caller=caller_of(context.peer()),
            facts={"runId": query.id},
        )
        facts.set(call.facts)
        if seconds < MIN_DEADLINE_SECONDS:
            raise GatewayError(Reason.DEADLINE_TOO_SHORT)
        try:
            async with asyncio.timeout(seconds) as limit:
                answer = await self._runs.get_run(query, call=call)
        except TimeoutError:
            if not limit.expired():
                raise
            is_own = own_seconds is not None
            reason = Reason.CALLER_DEADLINE if is_own else Reason.SERVER_DEADLINE
            raise GatewayError(reason) from None
        call.facts["awsRequestId"] = answer.request_id
        return answer

    async def WatchRun(  # noqa: N802  # gRPC's own name of the method
        self,
        request: WatchRunRequest,
        context: ServicerContext[WatchRunRequest, WatchRunResponse],
    ) -> AsyncIterator[WatchRunResponse]:
        """Follow one run to its end."""
        check_watch(request)
        known = {"runId": request.id}
        facts.set(known)
        own_seconds, seconds = context.time_remaining(), self._max_stream_seconds
        is_own = own_seconds is not None and own_seconds < seconds
        if own_seconds is not None:
            seconds = min(seconds, own_seconds)
        if seconds < MIN_DEADLINE_SECONDS:
            raise GatewayError(Reason.DEADLINE_TOO_SHORT)
        with self._watches.watch(
            RunQuery(request.id),
            selection=self._selection(request),
            uuid=request.uuid,
            period_seconds=self._period_seconds(request),
            seconds=seconds,
        ) as reader:
            try:
                while (run := await reader.next(known)) is not None:
                    yield WatchRunResponse(run=run)
            except TimeoutError:
                reason = Reason.CALLER_DEADLINE if is_own else Reason.WATCH_RENEW
                raise GatewayError(reason) from None

    def _accept(self, request: GetRunRequest) -> tuple[RunQuery, Selection]:
        """Check every rule of the contract; tell all faults at once."""
        check_get(request)
        export = tuple(sorted(set(request.export))) if request.export else ()
        return RunQuery(request.id, export), self._selection(request)

    def _period_seconds(self, request: WatchRunRequest) -> float | None:
        seconds = seconds_of(request.min_interval)
        return max(seconds, self._min_interval_seconds) if seconds else None

    def _staleness_seconds(self, request: GetRunRequest) -> float:
        if not request.HasField("max_staleness"):
            return self._max_staleness_seconds
        seconds = seconds_of(request.max_staleness)
        return min(seconds, self._max_staleness_limit_seconds)

    def _selection(self, request: GetRunRequest | WatchRunRequest) -> Selection:
        if not request.HasField("read_mask"):
            return self._all
        paths = frozenset(request.read_mask.paths)
        return Selection(None if ALL in paths else paths or None, self._withheld)


def caller_of(peer: str) -> Caller:
    """Take a peer, as gRPC names it, for who it is: its host, and its connection."""
    return Caller(peer.rpartition(":")[0], peer)
