"""The TCP ports that the workers share, held by sockets that never listen."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from healthomics_gateway.net.addresses import Address, UnixPath
from healthomics_gateway.net.hosts import addresses_to_bind, why_not_bound
from healthomics_gateway.settings.listener_settings import listeners_of
from healthomics_gateway.settings.schema import Settings


@dataclass(frozen=True, slots=True)
class Ports:
    """The real ports of all addresses."""

    admin: int
    listeners: Sequence[int]  # of `listen` and `[[listeners]]`, 0 for a Unix socket

    def applied_to(self, settings: Settings) -> Settings:
        """Return the settings with the real port of each address that has port 0."""
        own, *others = self.listeners
        tables = tuple(
            each.model_copy(update={"address": _with_port(each.address, port)})
            for each, port in zip(settings.listeners, others, strict=False)
        )
        rest = settings.listeners[len(others) :]  # of a file that was changed
        update = {
            "admin_listen": _with_port(settings.admin_listen, self.admin),
            "listen": _with_port(settings.listen, own),
            "listeners": (*tables, *rest),
        }
        return settings.model_copy(update=update)


def _with_port(address: Address | UnixPath, port: int) -> Address | UnixPath:
    if isinstance(address, Address) and address.port == 0:
        return Address(address.host, port)
    return address


async def reserve(settings: Settings, stack: ExitStack) -> tuple[list[int], list[str]]:
    """Hold the TCP addresses of gRPC until `stack` is closed.

    Return the port of each address, 0 for a Unix socket, and the faults.

    An address that another program has is a fault. The sockets that hold them never
    listen, so that they get no connections.
    """
    numbers: list[int] = []
    faults: list[str] = []
    for each in listeners_of(settings):
        port = 0
        if isinstance(each.address, Address):
            try:
                port = await _hold(each.address, stack)
            except OSError as error:
                faults.append(f"{each.name} {each.address}: {why_not_bound(error)}")
        numbers.append(port)
    return numbers, faults


async def _hold(address: Address, stack: ExitStack) -> int:
    """Hold an address on all hosts of its name; return the port."""
    hosts, port = await addresses_to_bind(address.host, address.port)
    for host in hosts:
        # Without SO_REUSEPORT it fails if another program listens at the address, or
        # holds it as below. SO_REUSEADDR only allows what a closed connection has left.
        with _bound(host, port) as probe:
            port = probe.getsockname()[1]
        held = stack.enter_context(_bound(host, port, is_shared=True))
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    return port


def _bound(host: str, port: int, *, is_shared: bool = False) -> socket.socket:
    """Return a bound socket; raises OSError."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if ":" in host:
            # As gRPC binds IPv6.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock
