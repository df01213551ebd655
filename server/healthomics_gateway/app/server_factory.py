"""Creates the gRPC server of each listener, with its services."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import grpc

from healthomics.v1.run_service_pb2_grpc import add_RunServiceServicer_to_server
from healthomics_gateway.app.file_limit import max_connections
from healthomics_gateway.app.grpc_server import make_server
from healthomics_gateway.app.interceptor_stack import Bounds, Guards, make_chain
from healthomics_gateway.app.listener import Listener
from healthomics_gateway.context import CallContext
from healthomics_gateway.interceptors.audit import audit
from healthomics_gateway.interceptors.chain import Chain
from healthomics_gateway.interceptors.status import status
from healthomics_gateway.services.channelz import Channelz
from healthomics_gateway.services.health import Health
from healthomics_gateway.services.names import CHANNELZ, HEALTH, RUN_SERVICE
from healthomics_gateway.services.reflection import add_reflection
from healthomics_gateway.services.run_service import RunService
from healthomics_gateway.settings.schema import Settings


class ServerFactory:
    """Creates the server of each listener; all share their services and limits."""

    def __init__(
        self,
        settings: Settings,
        *,
        guards: Guards,
        bounds: Bounds,
        service: RunService,
        health: Health,
        failed: Callable[[CallContext], None],
        options: Sequence[tuple[str, int]],
    ) -> None:
        """Keep what the servers share; `options` are gRPC's.

        `failed` is called with each call that has failed.
        """
        self._settings = settings
        self._guards = guards
        self._bounds = bounds
        self._service = service
        self._health = health
        self._audit = partial(audit, failed=failed)
        self._options = options

    def make(self, listener: Listener, addresses: int) -> tuple[grpc.aio.Server, Chain]:
        """Create the server of a listener; return it and its chain.

        `addresses` is the number of addresses that all servers are bound to.
        """
        settings, own = self._settings, listener.settings
        chain = make_chain(
            audit=self._audit,
            status=status(debug=settings.errors.debug),
            guard=self._guards.at(listener.by_connection),
            bounds=self._bounds,
            open_services=own.open_services,
            listener=str(own.address) if settings.listeners else "",
        )
        server = make_server(
            chain,
            options=self._options,
            max_in_flight=settings.max_in_flight,
            max_open=settings.watch.max_open,
            max_stream_seconds=settings.watch.max_stream.total_seconds(),
            # gRPC counts connections for each address of a server.
            connections=max_connections(settings.upstream.max_concurrent, addresses),
        )
        self._add_services(server, own.services)
        return server, chain

    def _add_services(self, server: grpc.aio.Server, services: frozenset[str]) -> None:
        if "RunService" in services:
            add_RunServiceServicer_to_server(self._service, server)
        if "Health" in services:
            self._health.add_to(server)
        if "Channelz" in services:
            Channelz().add_to(server)
        if "Reflection" in services:
            known = {"RunService": RUN_SERVICE, "Health": HEALTH, "Channelz": CHANNELZ}
            beside = [full for name, full in known.items() if name in services]
            add_reflection(server, beside=beside)
