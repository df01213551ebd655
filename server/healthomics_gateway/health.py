"""What others may know of the gateway's state: health, readiness, reflection.

Two gRPC health entries: "" tells that the process serves, the service's name that
it is ready, like `/readyz` on the admin address.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from types import MappingProxyType

import grpc
from aiohttp import web
from google.protobuf import descriptor_pool, text_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha.reflection import aio as reflection_aio

from healthomics.v1 import run_service_pb2
from healthomics_gateway.errors import Reason

SERVICE = run_service_pb2.DESCRIPTOR.services_by_name["RunService"].full_name
DOUBT_SECONDS = 30.0  # how long a refused identity keeps the gateway unready
HEALTH = health.SERVICE_NAME
REFLECTION_V1 = "grpc.reflection.v1.ServerReflection"
REFLECTION_V1ALPHA = "grpc.reflection.v1alpha.ServerReflection"

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Readiness:
    """Whether AWS accepts the gateway's own identity, as far as is known.

    A refusal is doubted after 30 s: then the next call decides.
    """

    def __init__(
        self, *, call_later: Callable[[float, Callable[[], None]], object]
    ) -> None:
        """Begin not ready, without credentials; `call_later` is the loop's."""
        self._call_later = call_later
        self._why: Reason | None = Reason.GATEWAY_CREDENTIALS_UNAVAILABLE
        self._is_draining = False
        self._changed = asyncio.Event()
        self._reports = 0

    @property
    def why_not(self) -> str:
        """Why the gateway isn't ready; empty where it is."""
        if self._is_draining:
            return Reason.GATEWAY_DRAINING.name
        return self._why.name if self._why else ""

    def report(self, why: Reason | None) -> None:
        """Take note that the identity works, or why it doesn't."""
        self._reports += 1
        if why and why is not Reason.GATEWAY_CREDENTIALS_UNAVAILABLE:
            number = self._reports
            self._call_later(DOUBT_SECONDS, lambda: self._doubt(number))
        self._set(why)

    def drain(self) -> None:
        """Be unready for good."""
        self._is_draining = True
        self._changed.set()

    async def changed(self) -> None:
        """Wait until it may have changed."""
        await self._changed.wait()
        self._changed.clear()

    def _doubt(self, number: int) -> None:
        if number == self._reports:
            self._set(None)

    def _set(self, why: Reason | None) -> None:
        if why is not self._why:
            self._why = why
            self._changed.set()


class Health:
    """The standard health service, kept at what `Readiness` says."""

    def __init__(self, readiness: Readiness) -> None:
        """Follow `readiness` once `follow` runs."""
        self._readiness = readiness
        self._servicer = health.aio.HealthServicer()

    def add_to(self, server: grpc.aio.Server) -> None:
        """Serve it."""
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    async def follow(self) -> None:
        """Tell watchers of every change, until cancelled."""
        while True:
            is_ready = not self._readiness.why_not
            await self._servicer.set(SERVICE, _SERVING if is_ready else _NOT_SERVING)
            await self._readiness.changed()

    async def drain(self) -> None:
        """Tell everyone to go elsewhere, for good."""
        await self._servicer.enter_graceful_shutdown()


def add_reflection(server: grpc.aio.Server) -> None:
    """Serve reflection, v1 and v1alpha: their messages are the same on the wire."""
    names = (SERVICE, HEALTH, REFLECTION_V1, REFLECTION_V1ALPHA)
    _describe_v1()
    servicer = reflection_aio.ReflectionServicer(names)
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(  # type: ignore[no-untyped-call]  # the stubs leave it out
        servicer, server
    )
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    generic = grpc.method_handlers_generic_handler(
        REFLECTION_V1, {"ServerReflectionInfo": handler}
    )
    server.add_generic_rpc_handlers((generic,))


def _describe_v1() -> None:
    """Let v1 be described too: the package at hand brings v1alpha alone."""
    file = FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(file)
    text = text_format.MessageToString(file).replace("v1alpha", "v1")
    descriptor_pool.Default().Add(text_format.Parse(text, FileDescriptorProto()))


class AdminPages:
    """The HTTP server of the admin address: `/livez` and `/readyz`.

    `/readyz?verbose` tells of each part, a line each; what is wrong with one that
    serves all the same, such as a certificate that can't be replaced, doesn't make the
    gateway unready.
    """

    def __init__(
        self,
        readiness: Readiness,
        *,
        parts: Mapping[str, Callable[[], str]] = MappingProxyType({}),
    ) -> None:
        """Tell what `readiness` says; `parts` tell what is wrong, or nothing."""
        self._readiness = readiness
        self._parts = parts
        app = web.Application()
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        self._runner = web.AppRunner(app, access_log=None)

    async def start(self, host: str, port: int) -> int:
        """Listen, and give the port; raise OSError where the address can't be had."""
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        bound: int = self._runner.addresses[0][1]
        return bound

    async def stop(self) -> None:
        """Stop listening and close every connection."""
        await self._runner.cleanup()

    async def _livez(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, request: web.Request) -> web.Response:
        why = self._readiness.why_not
        lines = [why or "ok"]
        if "verbose" in request.query:
            parts = {"aws": lambda: why, **self._parts}
            lines = [f"{name}: {tell() or 'ok'}" for name, tell in parts.items()]
        text = "".join(f"{line}\n" for line in lines)
        return web.Response(text=text, status=503 if why else 200)
