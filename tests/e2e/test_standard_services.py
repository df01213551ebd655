"""Health, readiness and reflection, as used by probes, load balancers and grpcurl."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from healthomics_gateway.app.gateway import Gateway
from healthomics_gateway.sandbox import REGION, SECRET_ACCESS_KEY
from healthomics_gateway.upstream.config import fixed
from testkit.builders import Sandbox, aws_at, calling, gateway, get_run, refused

SERVICE = "healthomics.v1.RunService"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
GRPCURL = Path(sys.executable).with_name("grpcurl")
PATIENCE_SECONDS = 5.0  # for what must happen soon
REFLECTION_TRIES = 20


@asynccontextmanager
async def open_channel(served: Gateway) -> AsyncIterator[grpc.aio.Channel]:
    """Open a channel."""
    async with grpc.aio.insecure_channel(str(served.address)) as channel:
        yield channel


async def health_of(channel: grpc.aio.Channel, service: str) -> int:
    """Return the health of a service."""
    request = health_pb2.HealthCheckRequest(service=service)
    answer = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=5)
    return int(answer.status)


async def page(served: Gateway, path: str) -> tuple[int, str]:
    """Return the status and text of an admin page."""
    url = f"http://{served.admin_address}{path}"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, await response.text()


@pytest.mark.guarantee("standard-services")
async def test_health_and_admin_pages_are_ok() -> None:
    """The process and the service are SERVING, and both admin pages are 200."""
    async with (
        Sandbox(quota_per_second=0) as sandbox,
        gateway(aws_at(sandbox.url)) as served,
        open_channel(served) as channel,
        calling(served) as stub,
    ):
        await get_run(stub, "1000003")
        assert [SERVING, SERVING] == [
            await health_of(channel, name) for name in ("", SERVICE)
        ]
        assert [(200, "ok\n")] * 2 == [
            await page(served, path) for path in ("/livez", "/readyz")
        ]


@pytest.mark.guarantee("credential-renewal")
async def test_health_follows_the_gateways_credentials() -> None:
    """Refused credentials make the service unready, but not the process."""
    async with Sandbox(quota_per_second=0) as sandbox:
        unknown = fixed(
            region=REGION,
            endpoint=sandbox.url,
            access_key="AKIDUNKNOWN",
            secret_key=SECRET_ACCESS_KEY,
        )
        async with (
            gateway(unknown) as served,
            open_channel(served) as channel,
            calling(served) as stub,
        ):
            watch = health_pb2_grpc.HealthStub(channel).Watch(
                health_pb2.HealthCheckRequest(service=SERVICE)
            )
            async with asyncio.timeout(PATIENCE_SECONDS):
                while (await watch.read()).status != SERVING:
                    pass
                failure = await refused(get_run(stub, "1000003"))
                while (await watch.read()).status != NOT_SERVING:
                    pass
            assert "GATEWAY_CREDENTIALS_INVALID" == failure.reason
            assert grpc.StatusCode.INTERNAL == failure.code
            assert 2 == sandbox.calls
            assert SERVING == await health_of(channel, "")
            assert (200, "ok\n") == await page(served, "/livez")
            assert (503, "GATEWAY_CREDENTIALS_INVALID\n") == await page(
                served, "/readyz"
            )
            watch.cancel()


async def test_health_is_not_serving_during_a_drain() -> None:
    """A drain sets health to NOT_SERVING before it ends any call."""
    async with (
        Sandbox(quota_per_second=0) as sandbox,
        gateway(aws_at(sandbox.url)) as served,
        open_channel(served) as channel,
    ):
        drain = asyncio.create_task(served.drain(10))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await health_of(channel, "") != NOT_SERVING:
                pass
        assert NOT_SERVING == await health_of(channel, SERVICE)
        assert (503, "GATEWAY_DRAINING\n") == await page(served, "/readyz")
        assert (200, "ok\n") == await page(served, "/livez")
        await drain


async def test_health_of_an_unknown_service_is_not_found() -> None:
    """A service that isn't served is NOT_FOUND, as in the health protocol."""
    async with (
        Sandbox() as sandbox,
        gateway(aws_at(sandbox.url)) as served,
        open_channel(served) as channel,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await health_of(channel, "nope")

    assert grpc.StatusCode.NOT_FOUND == caught.value.code()


async def test_health_list_is_unimplemented() -> None:
    """Health.List, which the health package lacks, is UNIMPLEMENTED, not INTERNAL."""
    async with (
        Sandbox() as sandbox,
        gateway(aws_at(sandbox.url)) as served,
        open_channel(served) as channel,
    ):
        call = channel.unary_unary("/grpc.health.v1.Health/List")
        failure = await refused(call(b"", timeout=5))

    assert (grpc.StatusCode.UNIMPLEMENTED, "METHOD_UNKNOWN") == (
        failure.code,
        failure.reason,
    )


async def reflect(
    channel: grpc.aio.Channel, version: str, **query: Any
) -> reflection_pb2.ServerReflectionResponse:
    """Send one request to a version of reflection; the messages are the same."""
    ask = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    request = reflection_pb2.ServerReflectionRequest(**query)
    for _ in range(REFLECTION_TRIES):
        try:
            (answer,) = [each async for each in ask([request], timeout=5)]
        except grpc.aio.AioRpcError as error:
            # The client may lose the status of a call that is refused before its
            # message: https://github.com/grpc/grpc/issues/36066
            if error.details() != "Internal error from Core":
                raise
        else:
            return answer
    raise AssertionError("the client has lost each status")


@pytest.mark.guarantee("standard-services")
@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_lists_the_services(version: str) -> None:
    """Both versions list RunService, health and reflection."""
    async with (
        Sandbox() as sandbox,
        gateway(aws_at(sandbox.url)) as served,
        open_channel(served) as channel,
    ):
        answer = await reflect(channel, version, list_services="")

    assert [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        SERVICE,
    ] == sorted(each.name for each in answer.list_services_response.service)


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
@pytest.mark.parametrize(
    ("symbol", "file"),
    [
        (SERVICE, "healthomics/v1/run_service.proto"),
        (f"{SERVICE}.GetRun", "healthomics/v1/run_service.proto"),
        ("healthomics.v1.Run", "healthomics/v1/run.proto"),
        ("healthomics.v1.ErrorReason", "healthomics/v1/error_reason.proto"),
        ("google.rpc.ErrorInfo", "google/rpc/error_details.proto"),
        ("google.rpc.Status", "google/rpc/status.proto"),
        ("grpc.reflection.v1.ServerReflection", "grpc_reflection/v1/reflection.proto"),
    ],
)
async def test_reflection_describes_a_symbol(
    version: str, symbol: str, file: str
) -> None:
    """Both versions return the file of a symbol."""
    async with (
        Sandbox() as sandbox,
        gateway(aws_at(sandbox.url)) as served,
        open_channel(served) as channel,
    ):
        answer = await reflect(channel, version, file_containing_symbol=symbol)

    files = answer.file_descriptor_response.file_descriptor_proto
    assert file in [FileDescriptorProto.FromString(each).name for each in files]


@pytest.mark.parametrize("symbol", ["nope", f"{SERVICE}.Nope", "healthomics.v1.Run.x"])
async def test_reflection_of_an_unknown_symbol_is_not_found(symbol: str) -> None:
    """A symbol that isn't defined is NOT_FOUND, whatever its prefix is."""
    async with (
        Sandbox() as sandbox,
        gateway(aws_at(sandbox.url)) as served,
        open_channel(served) as channel,
    ):
        answer = await reflect(channel, "v1", file_containing_symbol=symbol)

    assert grpc.StatusCode.NOT_FOUND.value[0] == answer.error_response.error_code


@pytest.mark.guarantee("standard-services")
async def test_grpcurl_describes_methods_and_enums() -> None:
    """`grpcurl describe` shows a method, an enum and the details of errors."""
    kinds = {
        f"{SERVICE}.GetRun": "a method",
        "healthomics.v1.ErrorReason": "an enum",
        "google.rpc.ErrorInfo": "a message",
    }
    async with Sandbox() as sandbox, gateway(aws_at(sandbox.url)) as served:
        outputs = [await described(served, symbol) for symbol in kinds]

    assert [f"{symbol} is {kind}:" for symbol, kind in kinds.items()] == [
        each.partition("\n")[0] for each in outputs
    ]


async def test_grpcurl_prints_json_names() -> None:
    """By reflection too, a run has the names of protobuf's JSON."""
    async with Sandbox() as sandbox, gateway(aws_at(sandbox.url)) as served:
        request = '{"id": "1000003", "read_mask": {"paths": ["creation_time"]}}'
        output = await grpcurl("-d", request, str(served.address), f"{SERVICE}.GetRun")

    assert {"creationTime", "observeTime"} == json.loads(output).keys()


async def described(served: Gateway, symbol: str) -> str:
    """Return grpcurl's description of a symbol."""
    return await grpcurl(str(served.address), "describe", symbol)


async def grpcurl(*arguments: str) -> str:
    """Return the output of grpcurl in plaintext."""
    program = await asyncio.create_subprocess_exec(
        *(GRPCURL, "-plaintext", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await program.communicate()
    return out.decode()
