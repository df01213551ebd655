"""A server whose streams break as the list says: what no gateway does on request."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from healthomics.v1.run_pb2 import Run, RunStatus
from healthomics.v1.run_service_pb2 import WatchRunRequest, WatchRunResponse
from testkit.authorities import HOST

SERVICE = "healthomics.v1.RunService"
DETAILS = "grpc-status-details-bin"
MESSAGE = "as scripted"
INTERNAL = grpc.StatusCode.INTERNAL
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
UNKNOWN = grpc.StatusCode.UNKNOWN


@dataclass(frozen=True, slots=True)
class Stream:
    """What a stream sends: the states of a run, then a status."""

    states: tuple[str, ...] = ()  # AWS's words
    code: grpc.StatusCode = grpc.StatusCode.OK
    details: Message | bytes | None = None  # bytes replace the whole encoded status

    @property
    def trailers(self) -> tuple[tuple[str, bytes], ...]:
        """Return the trailers of its status."""
        if self.details is None:
            return ()
        if isinstance(self.details, bytes):
            return ((DETAILS, self.details),)
        packed = Packed()
        packed.Pack(self.details)
        status = Status(code=self.code.value[0], message=MESSAGE, details=[packed])
        return ((DETAILS, status.SerializeToString()),)


def wait(*, seconds: int = 0, milliseconds: int = 0) -> RetryInfo:
    """Return the detail that asks for a wait."""
    delay = Duration(seconds=seconds, nanos=milliseconds * 1_000_000)
    return RetryInfo(retry_delay=delay)


ENDED = Stream(("COMPLETED",))
STREAMS: dict[str, tuple[Stream, ...]] = {  # by the run's id; the last one repeats
    "7000001": (Stream(code=INTERNAL), ENDED),
    "7000002": (Stream(code=UNKNOWN), ENDED),
    "7000003": (Stream(code=INTERNAL, details=ErrorInfo(domain="x")), ENDED),
    "7000004": (Stream(code=UNAVAILABLE, details=wait(seconds=-1)), ENDED),
    "7000005": (Stream(code=UNAVAILABLE, details=wait(seconds=2**62)), ENDED),
    "7000006": (Stream(code=UNAVAILABLE, details=b"\xff\xff no status"), ENDED),
    "7000007": (
        *[Stream(("RUNNING",), UNAVAILABLE, wait(milliseconds=50))] * 12,
        ENDED,
    ),
    "7000008": (Stream(code=UNAVAILABLE, details=wait(milliseconds=50)),),
}


class ScriptedServer:
    """Serves WatchRun with STREAMS, and keeps a log of its calls as gateways do."""

    def __init__(self) -> None:
        """Begin without calls."""
        self.calls: list[dict[str, Any]] = []
        self.address = ""
        self._numbers: Counter[str] = Counter()  # of streams, by request id

    async def watch_run(
        self, request: WatchRunRequest, rpc: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[WatchRunResponse]:
        """Send the next stream of a run; calls with an id of their own begin anew."""
        request_id = str(dict(rpc.invocation_metadata() or ()).get("x-request-id", ""))
        streams = STREAMS[request.id]
        stream = streams[min(self._numbers[request_id], len(streams) - 1)]
        self._numbers[request_id] += 1
        self.calls.append(
            {
                "method": "WatchRun",
                "request_id": request_id,
                "code": stream.code.name,
                "timestamp": str(time.time()),
            }
        )
        for word in stream.states:
            number = RunStatus.Value(f"RUN_STATUS_{word}")
            run = Run(id=request.id, uuid="1", status=number)
            run.observe_time.GetCurrentTime()
            yield WatchRunResponse(run=run)
        if stream.code is not grpc.StatusCode.OK:
            await rpc.abort(stream.code, MESSAGE, stream.trailers)


@asynccontextmanager
async def scripted() -> AsyncIterator[ScriptedServer]:
    """Serve the streams on a free port."""
    made, server = ScriptedServer(), grpc.aio.server()
    method = grpc.unary_stream_rpc_method_handler(
        made.watch_run,
        request_deserializer=WatchRunRequest.FromString,
        response_serializer=WatchRunResponse.SerializeToString,
    )
    handler = grpc.method_handlers_generic_handler(SERVICE, {"WatchRun": method})
    server.add_generic_rpc_handlers((handler,))
    made.address = f"{HOST}:{server.add_insecure_port(f'{HOST}:0')}"
    await server.start()
    try:
        yield made
    finally:
        await server.stop(0)
