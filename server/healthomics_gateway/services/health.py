"""The standard health service of gRPC, which reports `Readiness`.

The empty name means the process, which is serving until it begins to drain, and so do
the names of the standard services, which don't depend on HealthOmics. The name of
RunService means readiness, like `/readyz` on the admin address.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc
from grpc.aio import ServicerContext
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from healthomics_gateway.services.names import RUN_SERVICE
from healthomics_gateway.services.readiness import Readiness

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Health(health_pb2_grpc.HealthServicer):
    """Answers `Check` and `Watch`; no stream waits for another.

    The servicer of grpcio-health-checking writes to its watchers while it holds the
    condition that its other watchers and its own shutdown wait for. So one client that
    doesn't read blocks them all:
    https://github.com/grpc/grpc/blob/v1.80.0/src/python/grpcio_health_checking/grpc_health/v1/_async.py
    Here a stream holds nothing while it writes.
    """

    def __init__(self, readiness: Readiness, *, services: Iterable[str] = ()) -> None:
        """Report `readiness`, for the served services, given by their full names."""
        self._readiness = readiness
        self._of_the_process = frozenset(("", *services)) - {RUN_SERVICE}

    def add_to(self, server: grpc.aio.Server) -> None:
        """Add the service to a server."""
        health_pb2_grpc.add_HealthServicer_to_server(self, server)

    async def Check(  # noqa: N802  # gRPC's own name of the method
        self,
        request: HealthCheckRequest,
        rpc: ServicerContext[Any, Any],
    ) -> HealthCheckResponse:
        """Return the health of a service; abort with NOT_FOUND if it isn't served."""
        status = self._status(request.service)
        if status == _SERVICE_UNKNOWN:
            await rpc.abort(grpc.StatusCode.NOT_FOUND)
        return HealthCheckResponse(status=status)

    async def Watch(  # noqa: N802  # gRPC's own name of the method
        self,
        request: HealthCheckRequest,
        _rpc: ServicerContext[Any, Any],
    ) -> AsyncIterator[HealthCheckResponse]:
        """Yield the health of a service, then each change of it, without end.

        A client that reads slowly misses changes, but never the newest one.
        """
        sent = None
        while True:
            change = self._readiness.change  # read first: no change is missed
            status = self._status(request.service)
            if status != sent:
                yield HealthCheckResponse(status=status)
                sent = status
            await change.wait()

    def _status(self, service: str) -> int:
        if service == RUN_SERVICE:
            return _NOT_SERVING if self._readiness.why_not else _SERVING
        if service in self._of_the_process:
            return _NOT_SERVING if self._readiness.is_draining else _SERVING
        return _SERVICE_UNKNOWN
