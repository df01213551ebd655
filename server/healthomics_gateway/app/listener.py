"""Listeners: the addresses that callers connect to, each served by a gRPC server."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
import structlog
from grpc.aio import ServicerContext

from healthomics_gateway.auth.client_certificates import ClientCertificates
from healthomics_gateway.auth.policy import Credential
from healthomics_gateway.interceptors.authenticate import ByCertificate
from healthomics_gateway.net.addresses import UNIX, Address, UnixPath
from healthomics_gateway.net.hosts import addresses_to_bind, why_not_bound, why_refused
from healthomics_gateway.settings.endpoints import Endpoint
from healthomics_gateway.tls.peer import certificate_of
from healthomics_gateway.tls.reloader import ServerTls

NO_SOCKET = "it can't be bound; is its directory there and writable?"
LOCK_TRIES = 20
LOCK_PAUSE_SECONDS = 0.05  # between two of them

_log = structlog.get_logger("door")


class ListenFault(Exception):  # noqa: N818  # it is one fault of several
    """An address can't be listened on; the argument says why."""


class Listener:
    """One address, over TCP with TLS or without, or a Unix socket.

    gRPC doesn't tell which of its server's ports a call came in by, so each listener
    has a server of its own.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        tls: ServerTls | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """Listen as `endpoint` says, once opened; without `tls` in plaintext."""
        self._sleep = sleep
        self.endpoint = endpoint
        self.address = endpoint.address  # with its port, once it is open
        self._tls = tls
        self._targets: Sequence[Address] = ()  # of TCP, once it is prepared
        self.bound: Sequence[str] = ()  # what gRPC has bound: no names, real ports
        self._file: tuple[int, int] | None = None  # the socket's, once it is there

    @property
    def targets(self) -> int:
        """How many addresses gRPC binds for it, once it is prepared."""
        return len(self._targets) or 1  # a Unix socket

    @property
    def by_connection(self) -> ByCertificate | None:
        """Return what finds a caller's identity by its connection; None if nothing."""
        if self.endpoint.client_auth == "required":
            return _by_certificate(ClientCertificates())
        named = Credential(self.endpoint.identity)  # that of a socket
        return (lambda _: named) if self.endpoint.proves else None

    async def prepare(self) -> None:
        """Find out what to bind; raise ListenFault if that can't be done."""
        address = self.address
        if isinstance(address, UnixPath):
            path = Path(address.path)
            try:
                async with _locked(path.parent, self._sleep):
                    _remove_stale(path)
            except OSError:
                raise ListenFault(NO_SOCKET) from None
            return
        try:
            hosts, port = await addresses_to_bind(address.host, address.port)
        except OSError as error:
            raise ListenFault(why_not_bound(error)) from None
        self._targets = [Address(host, port) for host in hosts]

    async def open(self, server: grpc.aio.Server) -> None:
        """Bind and start the server, after `prepare`; raise ListenFault."""
        address = self.address
        try:
            if isinstance(address, UnixPath):
                path = Path(address.path)
                async with _locked(path.parent, self._sleep):
                    # Another may have come since: a listener of this process, whose
                    # path is written in another way, or another process.
                    _remove_stale(path)
                    self._bind_socket(server, path)
                self.bound = (str(address),)
            else:
                ports = [self._bind(server, target) for target in self._targets]
                self.address = Address(address.host, ports[0])
                self.bound = [
                    str(Address(target.host, port))
                    for target, port in zip(self._targets, ports, strict=True)
                ]
        except (OSError, RuntimeError):  # RuntimeError is gRPC's
            raise ListenFault(NO_SOCKET) from None
        await server.start()

    def close(self) -> None:
        """Remove the socket's file, unless others have replaced it since."""
        file, self._file = self._file, None
        if file and isinstance(self.address, UnixPath):
            path = Path(self.address.path)
            try:
                if _file_at(path) == file:
                    path.unlink(missing_ok=True)
            except OSError as error:  # the next start removes it
                _log.warning("socket_not_removed", why=error.strerror)

    def _bind(self, server: grpc.aio.Server, target: Address) -> int:
        """Bind one address, and return its port; raise ListenFault if it can't be."""
        try:
            if self._tls is None:
                return server.add_insecure_port(str(target))
            credentials = self._tls.credentials(client_auth=self.endpoint.client_auth)
            return server.add_secure_port(str(target), credentials)
        except RuntimeError:  # gRPC's, which doesn't say why
            raise ListenFault(why_refused(target.host, target.port)) from None

    def _bind_socket(self, server: grpc.aio.Server, path: Path) -> None:
        """Bind it so that at no time others than `mode` lets in can connect."""
        umask = os.umask(0o777)
        try:
            server.add_insecure_port(UNIX + quote(str(path)))
        finally:
            os.umask(umask)
        self._file = _file_at(path)
        path.chmod(self.endpoint.mode)


def _by_certificate(identities: ClientCertificates) -> ByCertificate:
    def credential_of(context: ServicerContext[Any, Any]) -> Credential | None:
        pem = certificate_of(context)
        return identities.credential_of(pem) if pem else None

    return credential_of


@asynccontextmanager
async def _locked(
    folder: Path, sleep: Callable[[float], Awaitable[object]]
) -> AsyncIterator[None]:
    """Keep other gateways from looking at sockets of a folder, and binding them.

    Two that start at the same moment would both find no socket that is served, and the
    second would take the path from the first. The wait for the lock has an end, as any
    program that can read the folder can hold it for ever.
    """
    with ExitStack() as stack:
        with suppress(OSError):  # what is wrong with the folder shows when it is used
            number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            stack.callback(os.close, number)  # which releases the lock
            for _ in range(LOCK_TRIES):
                with suppress(BlockingIOError):
                    fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                await sleep(LOCK_PAUSE_SECONDS)  # nothing tells when it is free
        yield


def _remove_stale(path: Path) -> None:
    """Remove a socket that nobody serves; raise ListenFault for anything else there.

    gRPC itself would take the path away from a process that serves it.
    """
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise ListenFault("a file is there that isn't a socket; remove it")
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(0)
            probe.connect(str(path))
    except FileNotFoundError:
        return
    except ConnectionRefusedError:
        path.unlink(missing_ok=True)
    except OSError:  # BlockingIOError: so many wait to be accepted
        raise ListenFault("it can't be bound; is it in use?") from None
    else:
        raise ListenFault("it is served already")


def _file_at(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
