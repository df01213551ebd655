"""Creates the gRPC server of each listener, with its services."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import grpc

from healthomics.v1.run_service_pb2_grpc import add_RunServiceServicer_to_server
from healthomics_gateway.app.file_limit import max_connections
from healthomics_gateway.app.grpc_server import make_server
from healthomics_gateway.app.interceptor_stack import (
    Observers,
    make_chain,
)
from healthomics_gateway.app.listener import Listener
from healthomics_gateway.app.measuring import measure_for
from healthomics_gateway.app.parts import Parts
from healthomics_gateway.context import Interceptor
from healthomics_gateway.interceptors.audit import audit
from healthomics_gateway.interceptors.chain import UNKNOWN_SERVICE, Chain
from healthomics_gateway.interceptors.status import status
from healthomics_gateway.interceptors.tracing import tracing
from healthomics_gateway.net.addresses import Address, UnixPath
from healthomics_gateway.services.channelz import Channelz
from healthomics_gateway.services.health import Health
from healthomics_gateway.services.names import full_names
from healthomics_gateway.services.reflection import add_reflection
from healthomics_gateway.settings.listener_settings import ListenerSettings
from healthomics_gateway.settings.schema import Settings
from healthomics_gateway.telemetry.spans import (
    SERVER_ADDRESS,
    SERVER_PORT,
    Attributes,
)


class ServerFactory:
    """Creates the server of each listener; all share their services and limits."""

    def __init__(
        self, settings: Settings, parts: Parts, *, options: Sequence[tuple[str, int]]
    ) -> None:
        """Create servers for `parts`; `options` are gRPC's."""
        self._settings = settings
        self._parts = parts
        self._health = Health(parts.readiness, services=parts.services)
        self._metrics = parts.observability.metrics
        self._tracer = parts.observability.tracer
        self._audit = partial(audit, failed=parts.observability.errors.add)
        self._status = status(debug=settings.errors.debug)
        self._options = options

    def make(self, listener: Listener, addresses: int) -> tuple[grpc.aio.Server, Chain]:
        """Create the server of a listener; return it and its chain.

        `addresses` is the number of addresses that all servers are bound to.
        """
        settings, own = self._settings, listener.settings
        chain = make_chain(
            observers=self._observers(own),
            guard=self._parts.guards.at(listener.by_connection),
            bounds=self._parts.bounds,
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

    def _observers(self, listener: ListenerSettings) -> Observers:
        without_rules = (UNKNOWN_SERVICE, *full_names(listener.open_services))
        audited = (
            self._audit,  # outside of all that refuses, so that every refusal is logged
            self._status,  # around all that can fail, so that failures have details
        )
        # Tracing is around the audit, because the log line has the ids of the trace.
        return Observers(
            measure=measure_for(self._metrics, without_rules=frozenset(without_rules)),
            of_known=(*self._trace(listener.address), *audited),
            of_open=(self._status,),
            of_unknown=(*self._trace(listener.address, is_known=False), *audited),
        )

    def _trace(
        self, address: Address | UnixPath, *, is_known: bool = True
    ) -> Sequence[Interceptor]:
        """Return the interceptor that traces calls, if they are traced."""
        if self._tracer is None:
            return ()
        if isinstance(address, UnixPath):
            at: Attributes = {SERVER_ADDRESS: address.path}
        else:
            port = {SERVER_PORT: address.port} if address.port else {}
            at = {SERVER_ADDRESS: address.host, **port}
        return (tracing(self._tracer, listener=at, is_known=is_known),)

    def _add_services(self, server: grpc.aio.Server, services: frozenset[str]) -> None:
        if "RunService" in services:
            add_RunServiceServicer_to_server(self._parts.service, server)
        if "Health" in services:
            self._health.add_to(server)
        if "Channelz" in services:
            Channelz().add_to(server)
        if "Reflection" in services:
            add_reflection(server, services=full_names(services))
