"""A server of the gateway's own interceptors over sources that a test scripts."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, cast

import grpc

from healthomics.v1.run_pb2 import Run
from healthomics.v1.run_service_pb2_grpc import add_RunServiceServicer_to_server
from healthomics_gateway.auth.policy import UNRULED, Access, Credential
from healthomics_gateway.context import (
    CallContext,
    Interceptor,
    caller_at,
    running_task,
)
from healthomics_gateway.errors.exceptions import AwsAnswer, GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.interceptors.audit import audit
from healthomics_gateway.interceptors.chain import Chain
from healthomics_gateway.interceptors.status import status
from healthomics_gateway.runs.source import Answer, Call, Caller, RunQuery, UpstreamInfo
from healthomics_gateway.runs.watch import Watches
from healthomics_gateway.services.health import Health
from healthomics_gateway.services.limits import REFUSAL_SECONDS, Limits
from healthomics_gateway.services.names import RUN_SERVICE
from healthomics_gateway.services.readiness import Readiness
from healthomics_gateway.services.run_service import RunService

GET_RUN = f"/{RUN_SERVICE}/GetRun"
AWS_REQUEST_ID = "7f2c4b1e-0d53-4a86-9f7e-2b8f4f1f9a11"

INTERVAL_SECONDS = 0.01  # of a watch's polls

Ask = Callable[[RunQuery, Call], Awaitable[Answer]]


def answer(run_id: str = "1234567", **fields: Any) -> Answer:
    """Return an answer as a source does."""
    return Answer(Run(id=run_id, **fields), AWS_REQUEST_ID)


async def end_of(call: Awaitable[bytes]) -> str:
    """Return the text, the reason of the error, or `cancelled`: how a call ends."""
    try:
        return (await call).decode()
    except GatewayError as error:
        return error.reason.name
    except asyncio.CancelledError:
        return "cancelled"


def call_context(
    *,
    rpc: object = None,
    peer: str = "ipv4:192.0.2.1:40000",
    caller: Caller | None = None,
    access: Access = UNRULED,
    credentials: tuple[Credential, ...] = (),
) -> CallContext:
    """Return the context of a call that runs in this task."""
    return CallContext(
        cast("Any", rpc),
        GET_RUN,
        "r-1",
        peer,
        running_task(),
        caller=caller or caller_at(peer),
        access=access,
        credentials=credentials,
    )


def failure(reason: Reason = Reason.UPSTREAM_INTERNAL, **more: Any) -> GatewayError:
    """Return a failure as a source raises it."""
    return GatewayError(reason, **more)


class Scripted:
    """A source that takes one step for each query; the last step repeats.

    A step is returned, raised if it is an error, or called if it can be.
    """

    def __init__(self, *steps: Answer | Exception | Ask) -> None:
        """Take `steps` in that order."""
        self._steps = steps
        self.asked: list[RunQuery] = []
        self.calls: list[Call] = []

    async def get_run(self, query: RunQuery, *, call: Call) -> Answer:
        """Take the next step."""
        step = self._steps[min(len(self.asked), len(self._steps) - 1)]
        self.asked.append(query)
        self.calls.append(call)
        if isinstance(step, Answer):
            call.upstream = UpstreamInfo(answer=AwsAnswer(step.request_id))
            return step
        if isinstance(step, Exception):
            raise step
        return await step(query, call)


class Hanging:
    """A step that never answers, and records whether it was called and cancelled."""

    def __init__(self) -> None:
        """Begin without a call."""
        self.is_asked = asyncio.Event()
        self.is_left = asyncio.Event()

    async def __call__(self, _query: RunQuery, _call: Call) -> Answer:
        """Wait until the call is cancelled."""
        self.is_asked.set()
        try:
            return await asyncio.Future[Answer]()
        finally:
            self.is_left.set()


@asynccontextmanager
async def serving(
    source: Scripted,
    *,
    default_deadline_seconds: float = 30.0,
    withheld: Iterable[str] = (),
    refusal_seconds: float = REFUSAL_SECONDS,
    debug: bool = False,
    inner: Iterable[Interceptor] = (),
    handlers: Iterable[grpc.GenericRpcHandler] = (),
) -> AsyncIterator[grpc.aio.Channel]:
    """Serve RunService over `source`, and open a channel to it.

    `inner` are further interceptors, inside `audit` and `status`; `handlers` are served
    as other services.
    """
    service = RunService(
        source,
        watches=Watches(source, polls=source, interval_seconds=INTERVAL_SECONDS),
        limits=Limits(
            default_deadline_seconds=default_deadline_seconds,
            withheld=frozenset(withheld),
            refusal_seconds=refusal_seconds,
        ),
    )
    stages = (audit, status(debug=debug))
    chain = Chain(
        {RUN_SERVICE: (*stages, *inner)}, of_others=stages[1:], of_unknown=stages
    )
    server = grpc.aio.server(interceptors=(chain,))
    add_RunServiceServicer_to_server(service, server)
    Health(Readiness(call_later=lambda *_: None)).add_to(server)
    server.add_generic_rpc_handlers(tuple(handlers))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await server.stop(0)
