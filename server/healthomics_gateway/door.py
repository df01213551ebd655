"""Where callers come in: the address that gRPC listens on, with TLS or without."""

from __future__ import annotations

import resource
from typing import Any

import grpc
from grpc.aio import ServicerContext

from healthomics_gateway.access import Credential
from healthomics_gateway.certificates import TlsFiles, TlsFilesError
from healthomics_gateway.errors import GatewayError, Reason
from healthomics_gateway.front import FILES_PER_CONNECTION, Front
from healthomics_gateway.identities import Identities
from healthomics_gateway.interceptors.authenticate import ByCertificate
from healthomics_gateway.kinds import Address
from healthomics_gateway.tls import Client, ServerTls, client_of


class ClosedError(Exception):
    """The address can't be listened on; gRPC and the system each have words for it."""


class Door:
    """One address; what TLS is served with is kept at its files."""

    def __init__(self, address: Address, *, files: TlsFiles | None) -> None:
        """Listen on `address` once opened; without `files` in plaintext."""
        self._address = address
        self._files = files
        self._tls: ServerTls | None = None
        self._front: Front | None = None

    @property
    def by_certificate(self) -> ByCertificate | None:
        """Tell callers by their certificates, None where they aren't asked for one."""
        if self._files is None or self._files.client_auth == "none":
            return None
        identities = Identities()

        def credential_of(context: ServicerContext[Any, Any]) -> Credential | None:
            pem = self._client_of(context).certificate
            return identities.credential_of(pem) if pem else None

        return credential_of

    @property
    def fault(self) -> str:
        """What is wrong with the certificate; empty where nothing is."""
        return self._tls.fault if self._tls else ""

    def peer_of(self, context: ServicerContext[Any, Any]) -> str:
        """Name the connection of a call, as gRPC does."""
        client = self._front.client_of(context) if self._front else None
        return client.peer if client else context.peer()

    async def open(self, server: grpc.aio.Server) -> Address:
        """Start the server; give the address with its port.

        Raises TlsFilesError, or ClosedError where the address can't be had.
        """
        try:
            port = await self._open(server)
        except (OSError, RuntimeError):  # RuntimeError is gRPC's
            raise ClosedError from None
        return Address(self._address.host, port)

    async def follow(self) -> None:
        """Keep the certificate at its files, until cancelled."""
        if self._tls:
            await self._tls.follow()

    async def close(self) -> None:
        """Cut every connection that doesn't end at gRPC itself."""
        if self._front:
            await self._front.stop()

    async def _open(self, server: grpc.aio.Server) -> int:
        if self._files is None:
            port = server.add_insecure_port(str(self._address))
        else:
            self._tls = ServerTls(self._files)
            if self._files.client_auth == "optional":
                return await self._open_front(server, self._tls)
            port = server.add_secure_port(str(self._address), self._tls.credentials())
        await server.start()
        return port

    async def _open_front(self, server: grpc.aio.Server, tls: ServerTls) -> int:
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = files // 2 // FILES_PER_CONNECTION
        try:
            self._front = Front(tls.context, max_connections=most)
        except OSError:
            fault = "tls.client_auth optional: it needs a temporary folder; set TMPDIR"
            raise TlsFilesError(fault) from None
        server.add_insecure_port(self._front.inner)
        await server.start()
        host = self._address.host.strip("[]")
        return await self._front.start(host, self._address.port)

    def _client_of(self, context: ServicerContext[Any, Any]) -> Client:
        if self._front is None:
            return client_of(context)
        client = self._front.client_of(context)
        if client is None:
            # Another process of this machine's has found the way past the front.
            raise GatewayError(Reason.TOKEN_INVALID)
        return client
