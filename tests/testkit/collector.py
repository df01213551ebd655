"""A collector of traces over real sockets, and the tracer that exports to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self

import grpc
from aiohttp import web
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SentSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased, Sampler

from healthomics_gateway.app.gateway import Gateway
from healthomics_gateway.telemetry.spans import EVENTS, SPANS
from healthomics_gateway.telemetry.tracing import OtelTracer
from testkit.builders import aws_at, gateway

WAIT_SECONDS = 10.0
KINDS = {
    SentSpan.SPAN_KIND_SERVER: "server",
    SentSpan.SPAN_KIND_CLIENT: "client",
    SentSpan.SPAN_KIND_INTERNAL: "internal",
}


@dataclass(frozen=True, slots=True)
class Event:
    """An event of a span."""

    name: str
    attributes: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Span:
    """A span as it was received; ids are in hexadecimal."""

    name: str
    kind: str
    trace_id: str
    id: str
    parent: str
    attributes: dict[str, Any]
    events: list[Event]
    links: set[str]  # ids of spans
    is_error: bool
    start: int
    end: int

    @property
    def run_id(self) -> str:
        """The id of the run that it is about."""
        return self.attributes.get("healthomics_gateway.run_id", "")

    @property
    def reason(self) -> str:
        """The reason of its error."""
        return self.attributes.get("error.type", "")


class Collector:
    """Keeps the spans that it receives, and checks that they are documented."""

    def __init__(self) -> None:
        """Begin without a span."""
        self.spans: list[Span] = []
        self.resources: list[dict[str, Any]] = []
        self._changed = asyncio.Event()

    async def received(self, name: str) -> Span:
        """Wait for a span with this name."""
        async with asyncio.timeout(WAIT_SECONDS):
            while not (found := self.named(name)):
                self._changed.clear()
                await self._changed.wait()
        return found[0]

    def named(self, name: str) -> list[Span]:
        """Return the spans with this name, in the order of their beginnings."""
        found = (each for each in self.spans if each.name == name)
        return sorted(found, key=lambda each: each.start)

    def only(self, name: str) -> Span:
        """Return the only span with this name."""
        (span,) = self.named(name)
        return span

    def take(self, request: ExportTraceServiceRequest) -> None:
        """Keep the spans of a request."""
        for of_resource in request.resource_spans:
            self.resources.append(_values(of_resource.resource.attributes))
            for scope in of_resource.scope_spans:
                self.spans += map(_span, scope.spans)
        self._changed.set()


def _span(sent: SentSpan) -> Span:
    span = Span(
        sent.name,
        KINDS[sent.kind],
        sent.trace_id.hex(),
        sent.span_id.hex(),
        sent.parent_span_id.hex(),
        _values(sent.attributes),
        [Event(each.name, _values(each.attributes)) for each in sent.events],
        {each.span_id.hex() for each in sent.links},
        sent.status.code == Status.STATUS_CODE_ERROR,
        sent.start_time_unix_nano,
        sent.end_time_unix_nano,
    )
    known = SPANS["{rpc.method}"] if span.kind == "server" else SPANS[span.name]
    assert set(span.attributes) <= set(known), span
    for event in span.events:
        assert set(event.attributes) <= set(EVENTS[event.name]), span
    return span


def _values(attributes: Any) -> dict[str, Any]:
    return {
        each.key: getattr(each.value, each.value.WhichOneof("value"))
        for each in attributes
    }


class HttpCollector(Collector):
    """A collector that speaks OTLP over HTTP; one that hangs never answers."""

    def __init__(self, *, hangs: bool = False) -> None:
        """Begin without a span."""
        super().__init__()
        self.url = ""
        self.asked = asyncio.Event()
        self._is_open = asyncio.Event()
        if not hangs:
            self._is_open.set()

    async def __aenter__(self) -> Self:
        """Listen on a free port."""
        app = web.Application(client_max_size=16 * 1024 * 1024)
        app.router.add_post("/v1/traces", self._receive)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop listening."""
        self._is_open.set()
        await self._runner.cleanup()

    async def _receive(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.asked.set()
        await self._is_open.wait()
        self.take(ExportTraceServiceRequest.FromString(body))
        answer = ExportTraceServiceResponse().SerializeToString()
        return web.Response(body=answer, content_type="application/x-protobuf")


class GrpcCollector(Collector):
    """A collector that speaks OTLP over gRPC."""

    async def __aenter__(self) -> Self:
        """Listen on a free port."""
        self._server = grpc.aio.server(migration_thread_pool=ThreadPoolExecutor(1))
        add_TraceServiceServicer_to_server(_Servicer(self), self._server)
        port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        self.url = f"http://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop listening."""
        await self._server.stop(0)


class _Servicer(TraceServiceServicer):
    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    async def Export(  # noqa: N802  # gRPC's own name
        self, request: ExportTraceServiceRequest, _context: Any
    ) -> ExportTraceServiceResponse:
        """Keep the spans of a request."""
        self._collector.take(request)
        return ExportTraceServiceResponse()


def tracer_to(url: str, *, sampler: Sampler | None = None) -> OtelTracer:
    """Return a tracer that exports to a collector; it samples every call by default."""
    provider = TracerProvider(
        sampler=sampler or ParentBased(ALWAYS_ON), shutdown_on_exit=False
    )
    exporter = OTLPSpanExporter(endpoint=f"{url}/v1/traces", timeout=1)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return OtelTracer(provider)


@dataclass(frozen=True, slots=True)
class Traced:
    """A gateway that exports its spans."""

    served: Gateway
    collector: Collector
    tracer: OtelTracer

    async def spans(self) -> Collector:
        """Return the collector, when all spans that have ended are there."""
        await self.tracer.flush(WAIT_SECONDS)
        return self.collector


@asynccontextmanager
async def traced(
    upstream_url: str, *, sampler: Sampler | None = None, **options: Any
) -> AsyncIterator[Traced]:
    """Serve a gateway whose upstream is at a URL, and whose calls are traced."""
    async with HttpCollector() as collector:
        tracer = tracer_to(collector.url, sampler=sampler)
        async with gateway(aws_at(upstream_url), tracer=tracer, **options) as served:
            yield Traced(served, collector, tracer)
