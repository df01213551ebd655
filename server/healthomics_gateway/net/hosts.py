"""Finds the addresses to listen on for a host, and why one can't be bound."""

from __future__ import annotations

import errno
import ipaddress
import re
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial

from healthomics_gateway.threads import in_thread

NOT_A_HOST = "the host isn't an IP address or a name of letters, digits and hyphens"
IN_USE = "it can't be bound; is it in use?"
_WHY_NOT_BOUND = {  # by the number of the error; for all others IN_USE
    errno.EINVAL: (
        "it can't be bound; a link-local address needs a zone: [fe80::1%eth0]"
    ),
    errno.EADDRNOTAVAIL: "it can't be bound; this machine has no such address",
    errno.EACCES: "it can't be bound; the process lacks the permission for this port",
    errno.EPERM: "it can't be bound; the process lacks the permission for this port",
}
LOCALHOST = ("127.0.0.1", "::1")  # RFC 6761, section 6.3; resolvers aren't asked


_NAME = re.compile(rb"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")


def is_host(text: str) -> bool:
    """Return whether a text is an IP address or a host's name (RFC 1035).

    A name may be internationalized, and may have underscores.
    """
    try:
        name = text.encode("idna")
        name.decode("idna")  # checks the labels that begin with xn--
    except UnicodeError:  # a label is empty, too long or not in Punycode
        return False
    return _NAME.fullmatch(name) is not None or _is_ip(text)


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


async def addresses_to_bind(
    host: str, port: int, *, is_shared: bool = False
) -> tuple[list[str], int]:
    """Return the addresses of a host of this machine, and the port to bind on them.

    Port 0 becomes a port that is free on all of them; with `is_shared`, other workers
    may have it. An IPv6 address has no brackets.
    Raises socket.gaierror if the name doesn't resolve, and OSError if an address can't
    be bound.
    """
    if _is_ip(host):
        return [host], port  # one address needs no common port
    return _bindable(await _resolved(host), port, is_shared=is_shared)


async def _resolved(host: str) -> Sequence[str]:
    if host == "localhost":
        return LOCALHOST
    look_up = partial(socket.getaddrinfo, host, None, type=socket.SOCK_STREAM)
    try:
        found = await in_thread(look_up, name="names")  # as it may hang
    except UnicodeError as error:  # a label of the name is too long
        raise socket.gaierror from error
    return tuple(dict.fromkeys(str(address[0]) for *_, address in found))


def _bindable(
    addresses: Sequence[str], port: int, *, is_shared: bool = False
) -> tuple[list[str], int]:
    """Bind all addresses for a moment; leave out IPv6 if this machine has none."""
    bound = []
    with ExitStack() as stack:
        for address in addresses:
            is_6 = ":" in address
            try:
                probe = socket.socket(socket.AF_INET6 if is_6 else socket.AF_INET)
                stack.enter_context(probe)
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if is_shared:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                probe.bind((address, port))
            except OSError as error:
                if is_6 and error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    continue
                raise
            port = probe.getsockname()[1]
            bound.append(address)
    if not bound:
        raise OSError(errno.EADDRNOTAVAIL, "this machine has no such address")
    return bound, port


def bind_error(host: str, port: int) -> OSError | None:
    """Bind an address for a moment; return why that fails, None if it succeeds."""
    try:
        _bindable([host], port)
    except OSError as error:
        return error
    return None


def why_refused(host: str, port: int) -> str:
    """Return why gRPC can't bind an address, as it doesn't report why."""
    error = bind_error(host, port)
    return why_not_bound(error) if error else IN_USE


def may_be_in_use(error: OSError) -> bool:
    """Return whether an address can't be bound because another process may serve it."""
    is_other = isinstance(error, socket.gaierror) or error.errno in _WHY_NOT_BOUND
    return not is_other


def why_not_bound(error: OSError) -> str:
    """Return the message of a fault for an address that can't be bound."""
    if isinstance(error, socket.gaierror):
        return "the name doesn't resolve to an address"
    return _WHY_NOT_BOUND.get(error.errno or 0, IN_USE)
