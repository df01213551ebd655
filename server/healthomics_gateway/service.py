"""RunService: a request becomes a query, the answer becomes the response."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterator
from itertools import islice

from google.rpc.error_details_pb2 import BadRequest
from grpc.aio import ServicerContext

from healthomics.v1.run_pb2 import Run, RunExport
from healthomics.v1.run_service_pb2 import GetRunRequest
from healthomics.v1.run_service_pb2_grpc import RunServiceServicer
from healthomics_gateway.errors import GatewayError, Reason, facts
from healthomics_gateway.runs import Answer, OneCall, RunQuery, RunSource
from healthomics_gateway.selection import ALL, Selection, unknown_paths

MAX_EXPORTS = 32
MAX_FAULTS = 128  # more than fit an error; a request can hold sixty thousand
MIN_DEADLINE_SECONDS = 0.01  # no answer of HealthOmics takes less
MAX_DURATION_SECONDS = 315_576_000_000  # of google.protobuf.Duration
MAX_NANOS = 999_999_999

_RUN_ID = re.compile(r"[0-9]{1,18}")
_EXPORTS = frozenset(RunExport.values()) - {RunExport.RUN_EXPORT_UNSPECIFIED}


def nothing(_query: RunQuery, _max_staleness_seconds: float) -> None:
    """Remember nothing."""


class RunService(RunServiceServicer):
    """Answers calls from one source of runs."""

    def __init__(
        self,
        runs: RunSource,
        *,
        recent: Callable[[RunQuery, float], Answer | None] = nothing,
        default_deadline_seconds: float,
        max_staleness_seconds: float = 0.0,
        max_staleness_limit_seconds: float = 0.0,
        withheld: frozenset[str] = frozenset(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Ask `runs`, unless `recent` has an answer at most so many seconds old.

        Who doesn't say how old an answer may be gets one of `max_staleness_seconds`,
        nobody an older one than the limit. `withheld` are AWS's names of members that
        nobody receives.
        """
        self._runs = runs
        self._recent = recent
        self._default_deadline_seconds = default_deadline_seconds
        self._max_staleness_seconds = max_staleness_seconds
        self._max_staleness_limit_seconds = max_staleness_limit_seconds
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
            caller=host_of(context.peer()),
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

    def _accept(self, request: GetRunRequest) -> tuple[RunQuery, Selection]:
        """Check every rule of the contract; tell all faults at once."""
        faults = [
            BadRequest.FieldViolation(field=field, description=description)
            for field, description in islice(_faults(request), MAX_FAULTS)
        ]
        if faults:
            has_id = _RUN_ID.fullmatch(request.id)
            raise GatewayError(
                Reason.INVALID_REQUEST,
                metadata={"runId": request.id} if has_id else {},
                violations=tuple(faults),
            )
        export = tuple(sorted(set(request.export))) if request.export else ()
        return RunQuery(request.id, export), self._selection(request)

    def _staleness_seconds(self, request: GetRunRequest) -> float:
        if not request.HasField("max_staleness"):
            return self._max_staleness_seconds
        allowed = request.max_staleness
        seconds = allowed.seconds + allowed.nanos / 1e9
        return min(seconds, self._max_staleness_limit_seconds)

    def _selection(self, request: GetRunRequest) -> Selection:
        if not request.HasField("read_mask"):
            return self._all
        paths = frozenset(request.read_mask.paths)
        return Selection(None if ALL in paths else paths or None, self._withheld)


def host_of(peer: str) -> str:
    """Give a peer, as gRPC names it, without its port."""
    return peer.rpartition(":")[0]


def _faults(request: GetRunRequest) -> Iterator[tuple[str, str]]:
    if not _RUN_ID.fullmatch(request.id):
        yield "id", "1 to 18 ASCII digits are needed."
    if len(request.export) > MAX_EXPORTS:
        yield "export", f"At most {MAX_EXPORTS} values are allowed."
    for at, export in enumerate(request.export):
        if export not in _EXPORTS:
            text = "A value of RunExport is needed, and not the unspecified one."
            yield f"export[{at}]", text
    if fault := _duration_fault(request):
        yield "max_staleness", fault
    masked = request.read_mask.paths if request.HasField("read_mask") else ()
    for at in unknown_paths(masked):
        text = "It isn't a field of Run or of its structures."
        yield f"read_mask.paths[{at}]", text


def _duration_fault(request: GetRunRequest) -> str | None:
    if not request.HasField("max_staleness"):
        return None
    duration = request.max_staleness
    if (
        abs(duration.seconds) > MAX_DURATION_SECONDS
        or abs(duration.nanos) > MAX_NANOS
        or duration.seconds * duration.nanos < 0
    ):
        return "It isn't a valid Duration."
    if duration.seconds < 0 or duration.nanos < 0:
        return "It must not be negative."
    return None
