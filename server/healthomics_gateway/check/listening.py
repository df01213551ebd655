"""Checks the certificates of the listeners, and whether their addresses are free."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from healthomics_gateway.app.listener import (
    NO_SOCKET,
    InUseError,
    Listener,
    ListenError,
)
from healthomics_gateway.check.found import Found
from healthomics_gateway.check.step import Result, failed, ok, skipped
from healthomics_gateway.net.addresses import Address, UnixPath
from healthomics_gateway.net.hosts import (
    addresses_to_bind,
    bind_error,
    may_be_in_use,
    why_not_bound,
)
from healthomics_gateway.settings.listener_settings import (
    ListenerSettings,
    listeners_of,
)
from healthomics_gateway.threads import in_thread
from healthomics_gateway.tls.certificates import parse_chain
from healthomics_gateway.tls.chain import chain_faults, covers, names_of
from healthomics_gateway.tls.files import (
    RENEWAL_DUE,
    Certified,
    TlsFiles,
    TlsFilesError,
    when_text,
)

PAGE_SECONDS = 2.0  # for the admin page of a running gateway
MAX_PAGE = 65_536  # bytes
FREE_IT = " Free it, or set another address"  # after a question
SET_ANOTHER = "; set an address of this machine that it may use"


async def check_certificates(found: Found) -> Result:
    """Check the certificate of each listener: its key, chain, dates and names."""
    listeners = listeners_of(found.settings)
    by_files: dict[TlsFiles, list[ListenerSettings]] = {}
    for each in listeners:
        if each.files:
            by_files.setdefault(each.files, []).append(each)
    if not by_files:
        return skipped("no listener has a certificate")
    problems: list[str] = []
    details, notes = [], []
    for files, using in by_files.items():
        now = found.now()
        try:
            certified = await in_thread(partial(files.load, now), name="certificates")
        except TlsFilesError as error:
            problems += error.args
            continue
        problems += _problems(files, certified, using, now)
        details.append(_detail(certified))
        if certified.not_after - now < RENEWAL_DUE:
            until = when_text(certified.not_after)
            notes.append(f"{files.section}.cert_file expires on {until}; renew it")
    # Listeners may have the same authorities.
    return (
        failed(*dict.fromkeys(problems)) if problems else ok("; ".join(details), *notes)
    )


def _problems(
    files: TlsFiles,
    certified: Certified,
    using: list[ListenerSettings],
    now: datetime,
) -> Iterator[str]:
    """Yield what clients would refuse in a certificate that the gateway can serve."""
    chain = parse_chain(certified.served.chain)
    setting = f"{files.section}.cert_file"
    for fault in chain_faults(chain, now):
        yield f"{setting}: {fault}"
    names = names_of(chain[0])
    if not names:
        yield (
            f"{setting}: the certificate has no host name in subjectAltName, so that"
            " every client refuses it; issue one with the names that clients connect to"
        )
        return
    for each in using:
        host = each.address.host if isinstance(each.address, Address) else ""
        if _is_public_name(host) and not covers(names, host):
            yield (
                f"{setting}: the certificate lacks the host name {host} of {each.name};"
                f" issue one that has it. This one has {', '.join(names)}"
            )


def _is_public_name(host: str) -> bool:
    """Return whether clients on other machines would connect to this name."""
    is_ip = ":" in host or host.replace(".", "").isdigit()
    return bool(host) and not is_ip and host != "localhost"


def _detail(certified: Certified) -> str:
    names = names_of(parse_chain(certified.served.chain)[0])
    return f"{', '.join(names)} until {when_text(certified.not_after)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fault:
    """Why an address can't be bound."""

    setting: str
    address: Address | UnixPath
    text: str  # with what to do
    is_taken: bool  # another process may serve there, such as a gateway

    def __str__(self) -> str:
        return f"{self.setting} {self.address}: {self.text}"


async def check_addresses(found: Found) -> Result:
    """Check that each address can be bound, unless a gateway already serves there."""
    admin, listeners = found.settings.admin_listen, listeners_of(found.settings)
    results = [await _tcp_fault("admin_listen", admin)]
    results += [await _listener_fault(each) for each in listeners]
    faults = [each for each in results if each]
    is_running = any(each.is_taken for each in faults) and await in_thread(
        partial(serves_pages, admin), name="admin"
    )
    if is_running:
        faults = [each for each in faults if not each.is_taken]
    if faults:
        return failed(*map(str, faults))
    if is_running:
        return skipped(f"a gateway is running here: {admin} has its admin pages")
    return ok(f"{len(results)} are free")


async def _listener_fault(listener: ListenerSettings) -> _Fault | None:
    if isinstance(listener.address, Address):
        return await _tcp_fault(listener.name, listener.address)
    return await _socket_fault(listener, listener.address)


async def _socket_fault(settings: ListenerSettings, address: UnixPath) -> _Fault | None:
    """Prepare a Unix socket as the gateway does, which removes a stale one."""
    fault = partial(_Fault, setting=settings.name, address=address)
    if not os.access(Path(address.path).parent, os.W_OK | os.X_OK):
        return fault(text=NO_SOCKET, is_taken=_is_served(address.path))
    try:
        await Listener(settings).prepare()
    except ListenError as error:
        return fault(text=str(error), is_taken=isinstance(error, InUseError))
    return None


def _is_served(path: str) -> bool:
    """Return whether a process, perhaps of another user, serves a Unix socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(0)
        try:
            probe.connect(path)
        except (PermissionError, BlockingIOError):  # it is another user's, or busy
            return True
        except OSError:
            return False
    return True


async def _tcp_fault(setting: str, address: Address) -> _Fault | None:
    try:
        hosts, port = await addresses_to_bind(address.host, address.port)
    except OSError as error:
        fault: OSError | None = error
    else:
        errors = (bind_error(host, port) for host in hosts)
        fault = next(filter(None, errors), None)
    if fault is None:
        return None
    is_taken = may_be_in_use(fault)
    text = f"{why_not_bound(fault)}{FREE_IT if is_taken else SET_ANOTHER}"
    return _Fault(setting=setting, address=address, text=text, is_taken=is_taken)


def serves_pages(admin: Address) -> bool:
    """Return whether a gateway serves its admin pages at an address. This blocks."""
    connection = HTTPConnection(admin.host, admin.port, timeout=PAGE_SECONDS)
    try:
        connection.request("GET", "/readyz?verbose")
        text = connection.getresponse().read(MAX_PAGE)
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
    return any(line.startswith(b"listeners: ") for line in text.splitlines())
