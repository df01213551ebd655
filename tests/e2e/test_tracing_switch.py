"""Tracing as the variables OTEL_* switch it on, in a process of its own."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from healthomics.v1.run_service_pb2 import GetRunRequest
from testkit.builders import get_run
from testkit.collector import GrpcCollector, HttpCollector
from testkit.gateway_process import (
    PROGRAM,
    STOP_SECONDS,
    Served,
    client,
    serving,
    starting,
)
from testkit.lying_upstream import LyingUpstream

RUN = "7000001"
GET_RUN = "healthomics.v1.RunService/GetRun"
DRAIN_SECONDS = 1.0
READINESS = {"ready", "unready"}
ENDING = {"draining", "stopped"} | READINESS
DRAIN = {"GATEWAY_DRAIN_TIME": f"{DRAIN_SECONDS:g}s"}
SOON = {"OTEL_BSP_SCHEDULE_DELAY": "50"}  # milliseconds between two exports
WITHOUT_OTEL = (
    "-c",
    """
import sys
sys.modules["opentelemetry"] = None
from healthomics_gateway.__main__ import main
sys.exit(main())
""",
)


@asynccontextmanager
async def rig(
    *, program: tuple[str, ...] = PROGRAM, **environ: str
) -> AsyncIterator[tuple[Served, Any]]:
    """Run a gateway with these variables; yield it and a stub."""
    async with (
        LyingUpstream() as upstream,
        serving(upstream.url, program=program, **(environ | DRAIN)) as served,
        client(served) as stub,
    ):
        yield served, stub


async def stopped(served: Served) -> list[dict[str, Any]]:
    """Stop a gateway, which must end in time; return its last events."""
    served.process.send_signal(signal.SIGTERM)
    assert 0 == await served.ended(DRAIN_SECONDS + STOP_SECONDS)
    return served.events()


@pytest.mark.parametrize(
    ("collector", "protocol"),
    [
        pytest.param(HttpCollector, "", id="default"),
        pytest.param(HttpCollector, "http/protobuf", id="http"),
        pytest.param(GrpcCollector, "grpc", id="grpc"),
    ],
)
async def test_endpoint_switches_tracing_on(
    collector: type[HttpCollector | GrpcCollector], protocol: str
) -> None:
    """Spans reach the collector by its protocol; the log line has their ids."""
    async with (
        collector() as receiving,
        rig(
            OTEL_EXPORTER_OTLP_ENDPOINT=receiving.url,
            OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
            **SOON,
        ) as (served, stub),
    ):
        await get_run(stub, RUN)
        line = await served.event("call")
        call = await receiving.received(GET_RUN)
        await stopped(served)

    assert (call.trace_id, call.id) == (line["trace_id"], line["span_id"])
    assert "healthomics-gateway" == receiving.resources[0]["service.name"]


async def test_other_variables_have_effect() -> None:
    """The name of the service, the sampler and the propagators are those of OTEL_*."""
    async with (
        HttpCollector() as collector,
        rig(
            OTEL_TRACES_EXPORTER="otlp",
            OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{collector.url}/v1/traces",
            OTEL_SERVICE_NAME="runs",
            OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=test",
            OTEL_TRACES_SAMPLER="parentbased_always_off",
            **SOON,
        ) as (served, stub),
    ):
        await get_run(stub, RUN)
        assert "trace_id" not in await served.event("call")
        trace = "0af7651916cd43dd8448eb211c80319c"
        parent = ("traceparent", f"00-{trace}-b7ad6b7169203331-01")
        await stub.GetRun(GetRunRequest(id=RUN), timeout=10, metadata=(parent,))
        call = await collector.received(GET_RUN)

    assert trace == call.trace_id
    resource = collector.resources[0]
    assert "runs" == resource["service.name"]
    assert "test" == resource["deployment.environment.name"]


async def test_drain_exports_the_last_spans() -> None:
    """Spans that wait for the next export are exported when the gateway stops."""
    async with (
        HttpCollector() as collector,
        rig(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url) as (served, stub),
    ):
        await get_run(stub, RUN)
        await stopped(served)
        assert [GET_RUN] == [each.name for each in collector.named(GET_RUN)]


async def test_hanging_collector_harms_nothing() -> None:
    """Calls are answered, and the shutdown doesn't wait for the collector."""
    async with (
        HttpCollector(hangs=True) as collector,
        rig(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, **SOON) as (served, stub),
    ):
        await get_run(stub, RUN)
        await collector.asked.wait()
        await get_run(stub, RUN)
        last = await stopped(served)

    assert "spans_not_exported" in [each["event"] for each in last]


async def test_absent_collector_is_reported_once() -> None:
    """Calls are answered, and one event says that nothing can be exported."""
    async with HttpCollector() as collector:
        address = collector.url.removeprefix("http://")
    async with rig(
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"http://user:secret@{address}/?key=secret",
        OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer secret",
        OTEL_EXPORTER_OTLP_TIMEOUT="3",  # time for a second attempt
        **SOON,
    ) as (served, stub):
        await get_run(stub, RUN)
        failed = await served.event("tracing_failed")
        await get_run(stub, RUN)
        last = await stopped(served)

    assert "warning" == failed["level"]
    assert "spans can't be exported: ConnectionRefusedError" == failed["why"]
    assert address == failed["collector"]
    assert "secret" not in str([failed, *last])
    events = {each["event"] for each in last}
    assert {"call", *ENDING} == (events | READINESS) - {"spans_not_exported"}


async def test_spans_beyond_the_bound_are_lost() -> None:
    """A full queue drops spans; calls don't wait, and one event says so."""
    bound = {"OTEL_BSP_MAX_QUEUE_SIZE": "8", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "4"}
    async with (
        HttpCollector(hangs=True) as collector,
        rig(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, **bound) as (served, stub),
    ):
        for _ in range(10):
            await get_run(stub, RUN)
        failed = await served.event("tracing_failed")
        events = [each["event"] for each in await stopped(served)]

    assert "the queue is full: spans are lost" == failed["why"]
    assert "tracing_failed" not in events


@pytest.mark.parametrize(
    ("environ", "why"),
    [
        pytest.param({}, "otel isn't installed", id="extra"),
        pytest.param({"OTEL_SDK_DISABLED": "yes"}, "OTEL_SDK_DISABLED", id="boolean"),
        pytest.param(
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "x"},
            "OTEL_EXPORTER_OTLP_PROTOCOL must be",
            id="protocol",
        ),
        pytest.param({"OTEL_PROPAGATORS": "pigeon"}, "OTEL_PROPAGATORS", id="name"),
    ],
)
async def test_tracing_that_is_unavailable_is_reported(
    environ: dict[str, str], why: str
) -> None:
    """The gateway serves without traces, and a warning says why."""
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    program = PROGRAM if environ else WITHOUT_OTEL
    async with (
        LyingUpstream() as upstream,
        starting(
            upstream.url, program=program, **(environ | endpoint | DRAIN)
        ) as served,
    ):
        unavailable = await served.event("tracing_unavailable")
        served.address = (await served.event("serving"))["address"]
        async with client(served) as stub:
            await get_run(stub, RUN)
        line = await served.event("call")
        await stopped(served)

    assert why in unavailable["why"]
    assert "trace_id" not in line


async def test_tracing_that_is_off_imports_nothing() -> None:
    """Without the variables the gateway doesn't look for OpenTelemetry."""
    async with rig(program=WITHOUT_OTEL) as (served, stub):
        await get_run(stub, RUN)
        last = await stopped(served)

    assert {"call", *ENDING} == {each["event"] for each in last} | READINESS
