"""RunService: GetRun and WatchRun."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

from grpc.aio import ServicerContext

from healthomics.v1.run_pb2 import Run
from healthomics.v1.run_service_pb2 import (
    GetRunRequest,
    WatchRunRequest,
    WatchRunResponse,
)
from healthomics.v1.run_service_pb2_grpc import RunServiceServicer
from healthomics_gateway.context import CallContext, current_call
from healthomics_gateway.errors.exceptions import AwsAnswer, GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.runs.cache import Cache
from healthomics_gateway.runs.shared_answers import NoOtherAnswers, OtherAnswers
from healthomics_gateway.runs.source import (
    Answer,
    Caller,
    OneCall,
    RunQuery,
    RunSource,
    UpstreamInfo,
)
from healthomics_gateway.runs.subscription import (
    Subscription,
    SubscriptionOptions,
)
from healthomics_gateway.runs.watch import Watches
from healthomics_gateway.services.limits import Limits, time_limit
from healthomics_gateway.services.requests import RequestReader, heartbeat_seconds
from healthomics_gateway.services.watch_messages import heartbeats, record


class RunService(RunServiceServicer):
    """Answers calls from a source of runs, or from the cache."""

    def __init__(
        self,
        runs: RunSource,
        *,
        watches: Watches,
        limits: Limits,
        cache: Cache | None = None,
        others: OtherAnswers | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Use `runs` for GetRun, unless `cache` or `others` have a recent answer."""
        self._runs = runs
        self._watches = watches
        self._limits = limits
        self._cache = cache or Cache(max_bytes=0)
        self._others = others or NoOtherAnswers()
        self._clock = clock
        self._requests = RequestReader(limits)

    def withhold(self, members: frozenset[str]) -> None:
        """Withhold these members from all answers and states that aren't sent yet.

        `members` are AWS's names.
        """
        self._requests.withhold(members)

    @property
    def watched_runs(self) -> int:
        """The number of runs that are watched."""
        return self._watches.pollers

    async def GetRun(  # noqa: N802  # gRPC's own name of the method
        self, request: GetRunRequest, _rpc: ServicerContext[GetRunRequest, Run]
    ) -> Run:
        """Return one run as HealthOmics knows it (AIP-131)."""
        call = current_call()
        query = self._requests.get(request, call)
        max_age_seconds = self._requests.max_age_seconds(request)
        answer = self._cache.get(query, max_age_seconds=max_age_seconds)
        if answer is None or not call.access.sees(answer.run):
            # A caller that may not see it is refused as late as for a missing run.
            answer = await self._read(query, call, max_age_seconds)
            return self._requests.selection(request, call).of(answer.run)
        if call.span and answer.origin:
            call.span.link(answer.origin)
        call.upstream = UpstreamInfo(answer=AwsAnswer(answer.request_id))
        call.is_from_cache = True
        return self._requests.selection(request, call).of(answer.run)

    async def _read(
        self, query: RunQuery, call: CallContext, max_age_seconds: float
    ) -> Answer:
        """Return a run that another replica has read lately, else from HealthOmics.

        Raises an error if the caller may not see the run that HealthOmics returns, at a
        time that doesn't depend on the look-up before. Raises CALLER_DEADLINE or
        SERVER_DEADLINE if the call's time is over.
        """
        begun = self._clock()
        seconds, is_own = time_limit(
            call.rpc.time_remaining(),
            default=self._limits.default_deadline_seconds,
            longest=self._limits.max_deadline_seconds,
        )
        asked = OneCall(begun + seconds, caller=call.caller, span=call.span)
        try:
            async with asyncio.timeout(seconds) as limit, self._hiding(call, begun):
                found = await self._others.find(query, max_age_seconds=max_age_seconds)
                if found and call.access.sees(found.run):
                    asked.upstream = UpstreamInfo(answer=AwsAnswer(found.request_id))
                    call.is_from_cache = call.is_from_store = True
                    return found
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
    async def _hiding(self, call: CallContext, begun: float) -> AsyncIterator[None]:
        """Replace an error that the caller may not receive, and delay it.

        The time that it took to read a run, or to retry, would show that the run
        exists. So CALLER_NOT_AUTHORIZED is raised at a multiple of `refusal_seconds`
        after `begun`, or the call's deadline ends the wait.
        """
        try:
            yield
        except GatewayError as error:
            received = call.received(error)
            if received.reason is Reason.CALLER_NOT_AUTHORIZED:
                step = self._limits.refusal_seconds
                await asyncio.sleep(step - (self._clock() - begun) % step)
            raise received from None

    async def WatchRun(  # noqa: N802  # gRPC's own name of the method
        self,
        request: WatchRunRequest,
        _rpc: ServicerContext[WatchRunRequest, WatchRunResponse],
    ) -> AsyncIterator[Any]:
        """Yield encoded responses that follow one run to its end."""
        call = current_call()
        query = self._requests.watch(request, call)
        longest = self._limits.max_stream_seconds
        own_seconds = call.rpc.time_remaining()
        seconds, is_own = time_limit(own_seconds, default=longest, longest=longest)
        begun, first = self._clock(), None
        call.end = begun + seconds  # for writes too, which wait for the client
        try:
            if call.access.is_restricted:
                fetching = asyncio.create_task(self._first_fetch(query, call, begun))
                beats = heartbeats(fetching, heartbeat_seconds(request))
                async with aclosing(beats):
                    async for beat in beats:
                        yield beat
                first = fetching.result()
            with self._subscribe(request, query, call, first) as watch:
                call.watched = watch.run
                try:
                    while (body := await watch.next()) is not None:
                        if call.messages:
                            record(call.messages, body, watch)
                        yield body
                except GatewayError:
                    call.upstream = watch.upstream
                    raise
                finally:
                    call.watched = None  # it refers to the call
        except TimeoutError:
            is_shorter = is_own and seconds < longest
            reason = Reason.CALLER_DEADLINE if is_shorter else Reason.WATCH_RENEW
            raise GatewayError(reason) from None
        except GatewayError as error:
            raise call.received(error) from None

    async def _first_fetch(
        self, query: RunQuery, call: CallContext, begun: float
    ) -> Answer:
        """Return the run by a fetch of the watch's own, or raise TimeoutError.

        The watch of a restricted caller begins with it. So each of its refusals follows
        a fetch that was sent after the call, even if the run is watched already.
        """
        caller = Caller(call.caller.name, query.id)
        asked = OneCall(call.end, caller=caller, is_poll=True, span=call.span)
        try:
            async with asyncio.timeout(call.end - begun), self._hiding(call, begun):
                first = await self._watches.first_fetch(
                    query,
                    call=asked,
                    hides=lambda error: call.access.hides(error),  # noqa: PLW0108  # the access may change
                )
                call.access.check(first.run)
        except GatewayError:
            call.upstream = asked.upstream
            raise
        return first

    def _subscribe(
        self,
        request: WatchRunRequest,
        query: RunQuery,
        call: CallContext,
        first: Answer | None,
    ) -> Subscription:
        """Return a subscription to what the caller may see, until the call's end.

        The rules, and so what the caller may see, can change meanwhile.
        """
        options = SubscriptionOptions(
            selection=lambda: self._requests.selection(request, call),
            name=call.caller.name,
            uuid=request.uuid,
            period_seconds=self._requests.period_seconds(request),
            heartbeat_seconds=heartbeat_seconds(request),
            seconds=call.end - self._clock(),
            check=lambda run: call.access.check(run),  # noqa: PLW0108  # the access may change
        )
        return self._watches.watch(query, options, first=first)
