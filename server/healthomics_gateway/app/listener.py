"""A listener: an address of the gateway, served by a gRPC server of its own."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
import structlog
from grpc.aio import ServicerContext

from healthomics_gateway.auth.client_certificates import ClientCertificates
from healthomics_gateway.auth.policy import Credential
from healthomics_gateway.configuration_error import ConfigurationError
from healthomics_gateway.interceptors.authenticate import ByCertificate
from healthomics_gateway.net.addresses import UNIX, Address, UnixPath
from healthomics_gateway.net.hosts import (
    IN_USE,
    addresses_to_bind,
    why_not_bound,
    why_refused,
)
from healthomics_gateway.settings.listener_settings import ListenerSettings
from healthomics_gateway.tls.peer import certificate_of
from healthomics_gateway.tls.reloader import ServerTls

NO_SOCKET = "it can't be bound; does its directory exist, and is it writable?"
LOCK_TRIES = 20
LOCK_PAUSE_SECONDS = 0.05  # between two tries

_log = structlog.get_logger("listener")


class ListenError(ConfigurationError):
    """Addresses can't be bound."""


class InUseError(ListenError):
    """An address can't be bound, as another process may serve it."""


class Listener:
    """An address over TCP, with or without TLS, or a Unix socket.

    gRPC doesn't report on which port of a server a call has arrived, so each listener
    has a server of its own.
    """

    def __init__(
        self,
        settings: ListenerSettings,
        *,
        tls: ServerTls | None = None,
        is_shared: bool = False,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """Create a listener; without `tls` it serves plaintext.

        With `is_shared` other workers may serve the same port.
        """
        self._sleep = sleep
        self.settings = settings
        self.address = settings.address  # after `open` with the real port
        self._tls = tls
        self._is_shared = is_shared
        self._targets: Sequence[Address] = ()  # of TCP, after `prepare`
        self.bound: Sequence[str] = ()  # the bound addresses: no names, real ports
        # The device and inode of the socket, after `open`.
        self._file: tuple[int, int] | None = None

    @property
    def targets(self) -> int:
        """Return the number of addresses that gRPC binds, after `prepare`."""
        return len(self._targets) or 1  # a Unix socket

    @property
    def by_connection(self) -> ByCertificate | None:
        """Return a function that returns a caller's identity by its connection."""
        if self.settings.client_auth == "required":
            return _by_certificate(ClientCertificates())
        named = Credential(self.settings.identity)  # the identity of a Unix socket
        return (lambda _: named) if self.settings.proves_identity else None

    async def prepare(self) -> None:
        """Resolve the addresses to bind; raises ListenError."""
        address = self.address
        if isinstance(address, UnixPath):
            path = Path(address.path)
            try:
                async with _locked(path.parent, self._sleep):
                    _remove_stale(path)
            except OSError:
                raise ListenError(NO_SOCKET) from None
            return
        try:
            hosts, port = await addresses_to_bind(
                address.host, address.port, is_shared=self._is_shared
            )
        except OSError as error:
            raise ListenError(why_not_bound(error)) from None
        self._targets = [Address(host, port) for host in hosts]

    @property
    def certificate_expires_at(self) -> datetime | None:
        """When its certificate expires; None without TLS."""
        return self._tls.served.not_after if self._tls else None

    async def open(self, server: grpc.aio.Server) -> None:
        """Bind and start the server, after `prepare`; raises ListenError."""
        address = self.address
        try:
            if isinstance(address, UnixPath):
                path = Path(address.path)
                async with _locked(path.parent, self._sleep):
                    # There may be a new socket since `prepare`: of another process, or
                    # of a listener with another spelling of the same path.
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
            raise ListenError(NO_SOCKET) from None
        await server.start()

    def close(self) -> None:
        """Remove the file of the socket, unless another process has replaced it."""
        file, self._file = self._file, None
        if file and isinstance(self.address, UnixPath):
            path = Path(self.address.path)
            try:
                if _file_at(path) == file:
                    path.unlink(missing_ok=True)
            except OSError as error:  # the next start removes it
                _log.warning("socket_not_removed", why=error.strerror)

    def _bind(self, server: grpc.aio.Server, target: Address) -> int:
        """Bind one address and return its port; raises ListenError."""
        try:
            if self._tls is None:
                return server.add_insecure_port(str(target))
            credentials = self._tls.credentials(client_auth=self.settings.client_auth)
            return server.add_secure_port(str(target), credentials)
        except RuntimeError:  # gRPC's, which doesn't say why
            raise ListenError(why_refused(target.host, target.port)) from None

    def _bind_socket(self, server: grpc.aio.Server, path: Path) -> None:
        """Bind the socket so that `mode` is never exceeded, not even for a moment."""
        umask = os.umask(0o777)
        try:
            server.add_insecure_port(UNIX + quote(str(path)))
        finally:
            os.umask(umask)
        self._file = _file_at(path)
        path.chmod(self.settings.mode)


def _by_certificate(identities: ClientCertificates) -> ByCertificate:
    def credential_of(rpc: ServicerContext[Any, Any]) -> Credential | None:
        pem = certificate_of(rpc)
        return identities.credential_of(pem) if pem else None

    return credential_of


@asynccontextmanager
async def _locked(
    directory: Path, sleep: Callable[[float], Awaitable[object]]
) -> AsyncIterator[None]:
    """Lock a directory, so that no other gateway checks or binds sockets in it.

    Without the lock, two gateways that start at the same time could both find the path
    free, and the second would replace the socket of the first. The wait is limited,
    because any program that can read the directory can hold the lock for ever.
    """
    with ExitStack() as stack:
        with suppress(OSError):  # an invalid directory is reported when it is used
            number = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            stack.callback(os.close, number)  # this releases the lock
            for _ in range(LOCK_TRIES):
                with suppress(BlockingIOError):
                    fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                # asyncio can't wait for flock.
                await sleep(LOCK_PAUSE_SECONDS)
        yield


def _remove_stale(path: Path) -> None:
    """Remove a socket that no process serves; raises ListenError for anything else.

    gRPC itself would replace the socket of a running process.
    """
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise ListenError("the path is a file that isn't a socket; remove it")
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(0)
            probe.connect(str(path))
    except FileNotFoundError:
        return
    except ConnectionRefusedError:
        path.unlink(missing_ok=True)
    except OSError:  # BlockingIOError: its backlog is full
        why = f"{IN_USE} Stop what serves it, or change the path"
        raise InUseError(why) from None
    else:
        raise InUseError("it is in use; stop what serves it, or change the path")


def _file_at(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
