"""The connection of a command to a gateway: its address, TLS and credentials."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias
from urllib.parse import quote

import grpc

from healthomics_gateway.cli.credential_files import (
    TokenFile,
    tls_contents,
    token_file,
)
from healthomics_gateway.cli.gateway_options import OF_TLS, OptionValue, read_options
from healthomics_gateway.configuration_error import ConfigurationError
from healthomics_gateway.net.addresses import UNIX, parse_address

_WITH_PORT = re.compile(r".*[^:]:[A-Za-z0-9-]+")  # or the name of a service
_WITHOUT_PORT = (UNIX, "unix-abstract:", "xds:")  # schemes of gRPC
Transport: TypeAlias = Literal["plaintext", "tls", "unix"]  # the transport of a call


def find_route(
    flags: Mapping[str, str | None],
    environ: Mapping[str, str],
    *,
    default_address: str,
) -> Route:
    """Return the route that flags and environment variables describe.

    Raises ConfigurationError with all faults, without the contents of files.
    """
    faults: list[str] = []
    given = read_options(flags, environ, faults)
    is_tls = _is_tls(given, faults)
    contents = tls_contents(given, faults)
    address = _address(given, default_address, faults)
    if "token_file" in given and not (is_tls or is_local(address)):
        faults.append(
            f"{given['token_file'].source}: no token is sent in plaintext to {address};"
            " add --tls, or --tls-ca with the gateway's authorities"
        )
    if is_tls and address.startswith(UNIX):
        faults.append(f"{address}: a Unix socket has no TLS; remove the TLS options")
    token = token_file(given.get("token_file"), faults)
    if faults:
        raise ConfigurationError(*faults)
    return Route(
        address=address,
        credentials=grpc.ssl_channel_credentials(
            *(contents.get(name) for name in ("tls_ca", "tls_key", "tls_cert"))
        )
        if is_tls
        else None,
        server_name=given["server_name"].text if "server_name" in given else None,
        token=token,
    )


@dataclass(frozen=True, slots=True)
class Route:
    """The way to connect to a gateway, and the credentials to send."""

    address: str
    credentials: grpc.ChannelCredentials | None  # None: plaintext
    server_name: str | None  # None: the host of the address
    token: TokenFile | None

    @property
    def transport(self) -> Transport:
        """Return the transport of the calls."""
        if self.address.startswith(UNIX):
            return "unix"
        return "plaintext" if self.credentials is None else "tls"

    def open(self, options: Sequence[tuple[str, Any]] = ()) -> grpc.Channel:
        """Create a channel with these options of gRPC."""
        chosen = [*options]
        target = self.address
        if target.startswith(UNIX):
            target = UNIX + quote(target.removeprefix(UNIX))
        if is_local(self.address):
            # A proxy can't connect to an address of this machine.
            chosen.append(("grpc.enable_http_proxy", 0))
        if self.server_name is not None:
            chosen.append(("grpc.ssl_target_name_override", self.server_name))
        if self.credentials is None:
            return grpc.insecure_channel(target, chosen)
        return grpc.secure_channel(target, self.credentials, chosen)

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return the metadata of the next call, with the current token."""
        if self.token is None:
            return ()
        # gRPC's call credentials can't be used on a plaintext channel.
        return (("authorization", f"Bearer {self.token.read()}"),)


def is_local(address: str) -> bool:
    """Return whether an address is on this machine, whatever names resolve to."""
    try:
        return address.startswith(UNIX) or parse_address(address).is_loopback
    except ValueError:
        return False


def _address(given: Mapping[str, OptionValue], default: str, faults: list[str]) -> str:
    if "address" not in given:
        return default
    source, address = given["address"].source, given["address"].text
    if not (address.startswith(_WITHOUT_PORT) or _WITH_PORT.fullmatch(address)):
        faults.append(
            f"{source} {address}: it has no port, and gRPC would use 443; write"
            " HOST:PORT or unix:/PATH"
        )
    return address


def _is_tls(given: Mapping[str, OptionValue], faults: list[str]) -> bool:
    tls = given.get("tls", OptionValue("", "false"))
    word = tls.text.lower()
    if word not in ("true", "false"):
        faults.append(f"{tls.source}: write true or false")
    return word != "false" or not given.keys().isdisjoint(OF_TLS)
