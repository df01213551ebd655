"""Addresses to listen on, and which hosts are loopback."""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from typing import Any, NamedTuple


def is_loopback(host: str) -> bool:
    """Tell whether only this machine answers there; an IPv6 address has no brackets."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")
_MAX_PORT = 65_535
UNIX = "unix:"
_MAX_PATH_BYTES = 107  # what the system takes, see unix(7)
_SCHEMES = {"dns", "ipv4", "ipv6", "unix", "unix-abstract", "vsock"}  # of gRPC


class Address(NamedTuple):
    """Where to listen. Port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        """Write it as it is set."""
        return f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback(self.host.strip("[]"))


@dataclass(frozen=True, slots=True)
class UnixPath:
    """A Unix socket to listen on, by its absolute path."""

    path: str

    def __str__(self) -> str:
        """Write it as it is set."""
        return f"{UNIX}{self.path}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return True


def parse_listen(value: Any) -> Address | UnixPath:
    """Read an address of TCP, or `unix:/path`; raise ValueError if it is invalid."""
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
    """Read `127.0.0.1:50051` or `[::1]:50051`; raise ValueError where it is none."""
    match = _ADDRESS.fullmatch(str(value))
    if not match or match[1] in _SCHEMES or int(match[2]) > _MAX_PORT:
        raise ValueError("write an address like 127.0.0.1:50051 or [::1]:50051")
    return Address(match[1], int(match[2]))
