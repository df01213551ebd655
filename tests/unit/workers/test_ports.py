"""The ports that the workers share."""

from __future__ import annotations

import socket
from contextlib import ExitStack

import pytest

from healthomics_gateway.net.addresses import Address, UnixPath
from healthomics_gateway.settings.schema import ListenerTable, Settings
from healthomics_gateway.workers.ports import Ports, reserve

IN_USE = "it can't be bound; is it in use?"


def settings(*addresses: str) -> Settings:
    """Return settings with these addresses; the first is that of `listen`."""
    own, *others = addresses
    return Settings(
        listen=own, listeners=tuple(ListenerTable(address=each) for each in others)
    )


def listening(host: str, port: int) -> socket.socket:
    """Listen as a worker does."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind((host, port))
    sock.listen()
    return sock


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost"])
async def test_held_port_is_shared_by_workers_only(host: str) -> None:
    """Port 0 is chosen once. Other programs can't bind it, until it is released."""
    with ExitStack() as held:
        (port,), faults = await reserve(settings(f"{host}:0"), held)
        assert [] == faults
        bare = "127.0.0.1" if host == "localhost" else host.strip("[]")
        with listening(bare, port), listening(bare, port):
            pass
        address = f"{host}:{port}"
        with ExitStack() as other:
            _, taken = await reserve(settings(address), other)
        assert [f"listen {address}: {IN_USE}"] == taken
    with ExitStack() as again:
        assert ([port], []) == await reserve(settings(address), again)


async def test_faults_of_all_addresses_are_returned() -> None:
    """A Unix socket isn't held, and has no port."""
    with ExitStack() as held, listening("127.0.0.1", 0) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        asked = settings(address, "unix:/run/a.sock", address)
        numbers, faults = await reserve(asked, held)

    assert [0, 0, 0] == numbers
    assert [
        f"{name} {address}: {IN_USE}" for name in ("listen", "listeners[1].address")
    ] == faults


def test_real_ports_replace_only_port_0() -> None:
    """Tables that were added to the file since the start keep their addresses."""
    ports = Ports(admin=1, listeners=[2, 0, 4])
    asked = settings("127.0.0.1:0", "unix:/run/a.sock", "127.0.0.1:5", "127.0.0.1:0")
    real = ports.applied_to(asked)

    assert Address("127.0.0.1", 2) == real.listen
    assert Address("127.0.0.1", 9464) == real.admin_listen
    assert [
        UnixPath("/run/a.sock"),
        Address("127.0.0.1", 5),
        Address("127.0.0.1", 0),
    ] == [each.address for each in real.listeners]
