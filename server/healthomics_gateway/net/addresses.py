"""Addresses to listen on, and which hosts are loopback."""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from typing import Any, NamedTuple


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine; an IPv6 address has no brackets."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")
_MAX_PORT = 65_535
UNIX = "unix:"
_MAX_PATH_BYTES = 107  # the limit of Linux, see unix(7)
_SCHEMES = {"dns", "ipv4", "ipv6", "unix", "unix-abstract", "vsock"}  # of gRPC


class Address(NamedTuple):
    """A TCP address to listen on. Port 0 lets the system choose the port."""

    host: str  # without the brackets of an IPv6 address
    port: int

    def __str__(self) -> str:
        """Return the address as it is set: `127.0.0.1:50051` or `[::1]:50051`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Return whether only this machine can connect to it."""
        return is_loopback(self.host)


@dataclass(frozen=True, slots=True)
class UnixPath:
    """A Unix socket to listen on, by its absolute path."""

    path: str

    def __str__(self) -> str:
        """Return the path as it is set: `unix:/path`."""
        return f"{UNIX}{self.path}"

    @property
    def is_loopback(self) -> bool:
        """Return whether only this machine can connect to it."""
        return True


def parse_listen(value: Any) -> Address | UnixPath:
    """Parse an address of TCP, or `unix:/path`. Raises ValueError."""
    text = str(value)
    if not text.startswith(UNIX):
        return parse_address(value)
    path = text.removeprefix(UNIX)
    if not path.startswith("/") or path.endswith("/") or not path.isprintable():
        raise ValueError("write a Unix socket by its absolute path: unix:/run/a.sock")
    if len(os.fsencode(path)) > _MAX_PATH_BYTES:
        raise ValueError(f"write a path of at most {_MAX_PATH_BYTES} bytes")
    return UnixPath(path)


def parse_address(value: Any) -> Address:
    """Parse `127.0.0.1:50051` or `[::1]:50051`. Raises ValueError."""
    match = _ADDRESS.fullmatch(str(value))
    if not match or match[1] in _SCHEMES or int(match[2]) > _MAX_PORT:
        raise ValueError("write an address like 127.0.0.1:50051 or [::1]:50051")
    return split_port(match[0])


def split_port(text: str) -> Address:
    """Split a valid address into host and port; the host may have an IPv6 zone."""
    host, _, port = text.rpartition(":")
    return Address(host.strip("[]"), int(port))
