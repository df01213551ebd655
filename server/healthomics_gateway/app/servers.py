"""Creates the gRPC server of each listener; all share their limits."""

from __future__ import annotations

import resource
from collections.abc import Sequence

import grpc

from healthomics.v1.run_service_pb2_grpc import add_RunServiceServicer_to_server
from healthomics_gateway.app.grpc_server import make_server, max_connections
from healthomics_gateway.app.interceptor_stack import Bounds, Guards, make_chain
from healthomics_gateway.app.listener import Listener
from healthomics_gateway.app.listeners import Listeners
from healthomics_gateway.auth.keyring import Keyring
from healthomics_gateway.auth.policy import Rule
from healthomics_gateway.auth.tokens import Tokens
from healthomics_gateway.interceptors.audit import audit
from healthomics_gateway.interceptors.authenticate import ByToken
from healthomics_gateway.interceptors.chain import Chain
from healthomics_gateway.interceptors.concurrency import Admission
from healthomics_gateway.interceptors.credential_expiry import CredentialExpiry
from healthomics_gateway.interceptors.drain import Drain
from healthomics_gateway.interceptors.first_message import FirstMessages
from healthomics_gateway.interceptors.send_buffer import SendBuffer
from healthomics_gateway.interceptors.status import status
from healthomics_gateway.interceptors.stream_writer import Writer
from healthomics_gateway.services.health import HEALTH, Health
from healthomics_gateway.services.reflection import add_reflection
from healthomics_gateway.services.run_service import RUN_SERVICE, RunService
from healthomics_gateway.settings.schema import Jwt, Settings


def _by_token(jwt: Jwt, keyring: Keyring | None) -> ByToken | None:
    if keyring is None:
        return None
    return Tokens(
        keyring,
        issuer=jwt.issuer or "",
        audiences=jwt.audience,
        algorithms=jwt.algorithms,
        identity_claim=jwt.identity_claim,
        audience_claim=jwt.audience_claim,
        leeway_seconds=jwt.leeway.total_seconds(),
    ).credential_of


class Servers:
    """Creates the server of each listener; all share their limits and services."""

    def __init__(
        self,
        settings: Settings,
        listeners: Listeners,
        *,
        service: RunService,
        health: Health,
        keyring: Keyring | None,
        options: Sequence[tuple[str, int]],
    ) -> None:
        """Create the shared parts in a running event loop, but no server yet."""
        self._settings = settings
        self._listeners = listeners
        self._service = service
        self._health = health
        self._options = options
        self._admission = Admission(max_in_flight=settings.max_in_flight)
        self._watching = Admission(max_in_flight=settings.watch.max_open)
        self.drain = Drain()
        expiry = CredentialExpiry()
        if keyring:
            keyring.on_change(expiry.check)
        self._guards = Guards(
            [Rule(**each.model_dump()) for each in settings.callers],
            by_token=_by_token(settings.jwt, keyring),
            expiry=expiry,
            asks_for_certificates=listeners.asks_for_certificates,
        )
        send_buffer = SendBuffer()
        self._bounds = Bounds(
            admission=self._admission,
            watching=self._watching,
            drain=self.drain,
            first_messages=FirstMessages(),
            send_buffer=send_buffer,
            writer=Writer(send_buffer),
        )

    @property
    def in_flight(self) -> int:
        """Return the number of calls under way, including watches."""
        return self._admission.inside + self._watching.inside

    def make(self, listener: Listener, addresses: int) -> tuple[grpc.aio.Server, Chain]:
        """Return the server of a listener, and its chain.

        `addresses` is the number of addresses that all servers are bound to.
        """
        settings, endpoint = self._settings, listener.endpoint
        chain = make_chain(
            audit=audit,
            status=status(debug=settings.errors.debug),
            guard=self._guards.at(listener.by_connection),
            bounds=self._bounds,
            open_services=endpoint.open_services,
            listener=str(endpoint.address) if len(self._listeners) > 1 else "",
        )
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        server = make_server(
            chain,
            options=self._options,
            max_in_flight=settings.max_in_flight,
            max_open=settings.watch.max_open,
            max_stream_seconds=settings.watch.max_stream.total_seconds(),
            # gRPC counts connections for each address of a server.
            connections=max_connections(
                settings.upstream.max_concurrent, addresses, files
            ),
        )
        self._add_services(server, endpoint.services)
        return server, chain

    def _add_services(self, server: grpc.aio.Server, services: frozenset[str]) -> None:
        if "RunService" in services:
            add_RunServiceServicer_to_server(self._service, server)
        if "Health" in services:
            self._health.add_to(server)
        if "Reflection" in services:
            known = {"RunService": RUN_SERVICE, "Health": HEALTH}
            beside = [full for name, full in known.items() if name in services]
            add_reflection(server, beside=beside)
