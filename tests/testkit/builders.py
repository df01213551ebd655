"""Builders for tests: a gateway on real sockets, and upstreams of scripted answers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Self

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from healthomics.v1.run_pb2 import Run
from healthomics.v1.run_service_pb2 import GetRunRequest
from healthomics.v1.run_service_pb2_grpc import RunServiceStub
from healthomics_gateway import sandbox
from healthomics_gateway.app.gateway import Gateway
from healthomics_gateway.app.parts import Observability
from healthomics_gateway.app.sharing import Sharing
from healthomics_gateway.errors.reasons import Advice, Reason
from healthomics_gateway.sandbox import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY
from healthomics_gateway.sandbox.signature import ReceivedRequest
from healthomics_gateway.services.limits import REFUSAL_SECONDS
from healthomics_gateway.settings.load import load
from healthomics_gateway.telemetry.spans import Tracer
from healthomics_gateway.upstream.config import Aws, fixed
from testkit.arrivals import FirstMessages, noted_at, within_quota
from testkit.connections import ConnectionServer

ANYWHERE = "127.0.0.1:0"
UNPACED = {"GATEWAY_QUOTA__TPS": "10000", "GATEWAY_QUOTA__BURST": "10000"}
ALWAYS = {"ErrorInfo", "RequestInfo"}  # the details of every error
CANARIES = (
    "arn:",
    "123456789012",
    "AKID",
    "sandbox/opens",
    "Traceback",
    "<class",
    "/run",
)


def aws_at(endpoint: str) -> Aws:
    """Return the AWS of a gateway: an endpoint, with the sandbox's credentials."""
    return fixed(
        region=REGION,
        endpoint=endpoint,
        access_key=ACCESS_KEY_ID,
        secret_key=SECRET_ACCESS_KEY,
    )


@asynccontextmanager
async def gateway(
    aws: Aws,
    *,
    toml: str = "",
    listen: str = ANYWHERE,
    admin_listen: str = ANYWHERE,
    refusal_seconds: float = REFUSAL_SECONDS,
    tracer: Tracer | None = None,
    sharing: Sharing | None = None,
    **environ: str,
) -> AsyncIterator[Gateway]:
    """Serve a gateway on free ports; `environ` are settings, as environment variables.

    `toml` is the content of its settings file. The quota is large enough for any test,
    unless a test sets another one; it is checked that the gateway doesn't exceed it.
    """
    environ = UNPACED | environ
    with NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(toml)
        file.flush()
        settings = load(
            flags={"listen": listen, "admin_listen": admin_listen},
            environ=environ,
            config_file=Path(file.name),
        ).settings
    observability = Observability(tracer=tracer)
    served = Gateway(
        settings,
        aws,
        observability=observability,
        refusal_seconds=refusal_seconds,
        sharing=sharing,
    )
    try:
        await served.start()
        with within_quota(aws.endpoint, environ):
            yield served
    finally:
        await served.stop()


@asynccontextmanager
async def calling(served: Gateway, **options: Any) -> AsyncIterator[RunServiceStub]:
    """Open a new channel to a gateway."""
    async with grpc.aio.insecure_channel(
        str(served.address), options=list(options.items())
    ) as channel:
        yield RunServiceStub(channel)


class Sandbox(sandbox.Sandbox):
    """The sandbox; its requests count towards the quota of their gateway."""

    async def start(self) -> None:
        """Listen, and note each request."""
        await super().start()
        self.requests = _Noted(self.requests, self.requests.maxlen)
        self.requests.arrivals = noted_at(self.url)


class _Noted(deque[ReceivedRequest]):
    arrivals: FirstMessages

    def append(self, request: ReceivedRequest, /) -> None:
        self.arrivals.note()
        super().append(request)


@asynccontextmanager
async def sandboxed(**environ: str) -> AsyncIterator[tuple[RunServiceStub, Sandbox]]:
    """Open a channel to a gateway whose upstream is a sandbox without quota."""
    async with (
        Sandbox(quota_per_second=0) as sandbox,
        gateway(aws_at(sandbox.url), **environ) as served,
        calling(served) as stub,
    ):
        yield stub, sandbox


async def get_run(
    stub: Any, run_id: str, *, seconds: float | None = 10.0, **fields: Any
) -> Run:
    """Make one GetRun with a deadline in `seconds`; `fields` are the request's."""
    run: Run = await stub.GetRun(GetRunRequest(id=run_id, **fields), timeout=seconds)
    return run


async def refused(call: Awaitable[Any]) -> Refusal:
    """Await a call that must fail, and return its failure."""
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        return Refusal(error)
    raise AssertionError(f"it succeeded: {answer}")


class Refusal:
    """A failed call, with its details unpacked."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        """Read the error's trailers."""
        self.code = error.code()
        self.message = error.details()
        self.trailers = dict(error.trailing_metadata() or ())
        status = rpc_status.from_call(error)
        self.size = (status.ByteSize() + len(status.message)) if status else 0
        self.details: dict[str, Message] = {}
        for each in status.details if status else ():
            name = each.TypeName().rpartition(".")[2]
            assert name not in self.details, f"two {name}"
            detail = getattr(error_details_pb2, name)()
            each.Unpack(detail)
            self.details[name] = detail

    @property
    def reason(self) -> str:
        """The reason of ErrorInfo."""
        return self.details["ErrorInfo"].reason

    @property
    def metadata(self) -> dict[str, str]:
        """The metadata of ErrorInfo."""
        return dict(self.details["ErrorInfo"].metadata)


def assert_well_made(failure: Refusal) -> None:
    """Check the properties that every error of the gateway has."""
    assert ALWAYS <= set(failure.details)
    assert "healthomics-gateway" == failure.details["ErrorInfo"].domain
    assert failure.trailers["x-request-id"] == failure.details["RequestInfo"].request_id
    assert failure.size <= 4096
    pushback = failure.trailers.get("grpc-retry-pushback-ms")
    if "RetryInfo" in failure.details:
        delay_ms = failure.details["RetryInfo"].retry_delay.ToMilliseconds()
        assert 50 <= delay_ms <= 60_000
        is_to_wait = Reason[failure.reason].value.advice is Advice.WAIT
        assert pushback == (None if is_to_wait else str(delay_ms))
    else:
        assert "-1" == pushback
    everything = f"{failure.message} {failure.details} {failure.trailers}"
    assert [] == [canary for canary in CANARIES if canary in everything]


class Upstream:
    """An HTTP server of scripted bytes: request number n gets answer number n.

    The last answer repeats. An answer is sent as it is, then the connection is closed
    unless the answer has `keep-alive`; a number is a pause in seconds.
    """

    def __init__(self, *answers: bytes | list[bytes | float]) -> None:
        """Send `answers`, in that order."""
        self._answers = answers
        self._server = ConnectionServer(self._talk)
        self.requests: list[str] = []  # each request's head
        self.asked = asyncio.Event()  # a request has arrived
        self.hung_up = asyncio.Event()  # a client has disconnected in a pause
        self.url = ""

    async def __aenter__(self) -> Self:
        """Listen on a free port."""
        await self._server.listen()
        self.url = self._server.url
        self._arrivals = noted_at(self.url)
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Close every connection."""
        await self._server.stop()

    async def _talk(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while not writer.is_closing():
            head = await reader.readuntil(b"\r\n\r\n")
            position = min(len(self.requests), len(self._answers) - 1)
            self.requests.append(head.decode())
            self._arrivals.note()
            self.asked.set()
            answer = self._answers[position]
            for part in answer if isinstance(answer, list) else [answer]:
                await self._say(part, reader, writer)

    async def _say(
        self,
        part: bytes | float,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        if isinstance(part, bytes):
            writer.write(part)
            await writer.drain()
            if b"keep-alive" not in part:
                writer.close()
            return
        try:
            async with asyncio.timeout(part):
                if not await reader.read(1):
                    self.hung_up.set()
                    raise ConnectionError
        except TimeoutError:
            pass


def http(
    body: bytes | str = b"", *, status: int = 200, keep: bool = True, **headers: str
) -> bytes:
    """Return one HTTP response; header names have `_` for `-`."""
    raw = body.encode() if isinstance(body, str) else body
    lines = {
        "content-type": "application/json",
        "content-length": str(len(raw)),
        "connection": "keep-alive" if keep else "close",
    } | {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status} Said\r\n{head}\r\n".encode() + raw
