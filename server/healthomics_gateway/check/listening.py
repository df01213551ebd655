"""Checks the certificates of the listeners, and whether their addresses are free."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from healthomics_gateway.app.listener import NO_SOCKET, Listener, ListenError
from healthomics_gateway.check.found import Found
from healthomics_gateway.check.step import Result, failed, ok, skipped
from healthomics_gateway.net.addresses import Address, UnixPath
from healthomics_gateway.net.hosts import addresses_to_bind, bind_fault, why_not_bound
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
IN_USE = "in use"  # in the fault of an address that another process serves


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


async def check_addresses(found: Found) -> Result:
    """Check that each address can be bound, unless a gateway already serves there."""
    admin = found.settings.admin_listen
    faults = {f"admin_listen {admin}": await _fault_of(admin)}
    for each in listeners_of(found.settings):
        fault = await _listener_fault(each)
        faults[f"{each.name} {each.address}"] = fault
    problems = {name: fault for name, fault in faults.items() if fault}
    taken = [name for name, fault in problems.items() if IN_USE in fault]
    is_running = False
    if taken:
        is_running = await in_thread(partial(serves_pages, admin), name="admin")
    if is_running:
        for name in taken:
            del problems[name]
        if not problems:
            return skipped(f"a gateway is running here: {admin} has its admin pages")
    if problems:
        return failed(
            *(
                f"{name}: {fault}; free it, or set another address"
                if IN_USE in fault
                else f"{name}: {fault}; set an address of this machine that it may use"
                for name, fault in problems.items()
            )
        )
    return ok(f"{len(faults)} are free")


async def _listener_fault(listener: ListenerSettings) -> str | None:
    if isinstance(listener.address, Address):
        return await _fault_of(listener.address)
    return await _socket_fault(listener, listener.address)


async def _socket_fault(settings: ListenerSettings, address: UnixPath) -> str | None:
    """Prepare a Unix socket as the gateway does, which removes a stale one."""
    if not os.access(Path(address.path).parent, os.W_OK | os.X_OK):
        return NO_SOCKET
    try:
        await Listener(settings).prepare()
    except ListenError as error:
        return str(error)
    return None


async def _fault_of(address: Address) -> str | None:
    try:
        hosts, port = await addresses_to_bind(address.host, address.port)
    except OSError as error:
        return why_not_bound(error)
    return next(filter(None, (bind_fault(host, port) for host in hosts)), None)


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
