"""Checks of the addresses that gRPC is served at, and of TLS on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TypeAlias

from healthomics_gateway.auth.policy import ANONYMOUS
from healthomics_gateway.net.addresses import Address, UnixPath
from healthomics_gateway.settings.file_checks import is_readable
from healthomics_gateway.settings.listener_settings import ListenerSettings
from healthomics_gateway.settings.schema import Settings, Tls
from healthomics_gateway.tls.files import TlsFilesError

ONLY_TCP = frozenset({"client_auth", "cert_file", "key_file"})  # keys of listeners
ONLY_SOCKETS = frozenset({"identity", "mode"})
PAIR = ("tls.cert_file", "tls.key_file")
AUTHORITIES = (*PAIR, "tls.client_ca_file")
IN_PLAINTEXT = (
    "other machines can reach this address; set tls.cert_file and tls.key_file"
    " (GATEWAY_TLS__CERT_FILE, GATEWAY_TLS__KEY_FILE), or set tls.insecure = true"
    " (GATEWAY_TLS__INSECURE=true) to serve it in plaintext"
)
# A fault, and the settings that may have caused it because they aren't set.
Finding: TypeAlias = tuple[tuple[str, ...], str]


def listener_faults(
    settings: Settings, listeners: Sequence[ListenerSettings]
) -> Iterator[Finding]:
    """Yield the faults of the addresses and their TLS settings."""
    tls = settings.tls
    if bool(tls.cert_file) != bool(tls.key_file):
        yield PAIR, "tls.cert_file and tls.key_file: set both or neither"
    yield from _client_faults(tls, listeners)
    yield from _plaintext_faults(tls, listeners)
    yield from _table_faults(settings, listeners)
    yield from _address_faults(settings, listeners)
    if settings.workers > 1 and not any(
        isinstance(each.address, Address) for each in listeners
    ):
        fault = "a Unix socket can't be shared; add a listener with a TCP address"
        yield ("listen", "listeners"), f"workers {settings.workers}: {fault}"


def certificate_faults(listeners: Sequence[ListenerSettings]) -> list[str]:
    """Return the faults of the certificates and keys whose files can be read."""
    faults: list[str] = []
    for files in dict.fromkeys(each.files for each in listeners if each.files):
        paths = (files.cert_file, files.key_file, files.client_ca_file)
        if all(is_readable(path) for path in paths if path):
            try:
                files.load(datetime.now(UTC))
            except TlsFilesError as error:
                faults += error.args
    return list(dict.fromkeys(faults))  # listeners have the same authorities


def _client_faults(
    tls: Tls, listeners: Sequence[ListenerSettings]
) -> Iterator[Finding]:
    """Yield a fault if clients are asked for certificates that can't be verified."""
    if tls.client_auth != "none" and not (tls.client_ca_file and tls.cert_file):
        fault = "set tls.cert_file, tls.key_file and tls.client_ca_file too"
        yield AUTHORITIES, f"tls.client_auth {tls.client_auth}: {fault}"
    modes = {tls.client_auth, *(each.client_auth for each in listeners)}
    if tls.client_ca_file and modes == {"none"}:
        fault = "set client_auth to required, in [tls] or a listener"
        yield ("tls.client_auth", "listeners"), f"tls.client_ca_file: {fault}"


def _plaintext_faults(
    tls: Tls, listeners: Sequence[ListenerSettings]
) -> Iterator[Finding]:
    for each in listeners:
        if not (each.address.is_loopback or each.files or tls.insecure):
            fault = f"{each.name} {each.address}: {IN_PLAINTEXT}"
            yield (*PAIR, "tls.insecure"), fault


def _table_faults(
    settings: Settings, listeners: Sequence[ListenerSettings]
) -> Iterator[Finding]:
    """Yield the faults of `[[listeners]]`."""
    for at, (table, listener) in enumerate(
        zip(settings.listeners, listeners[1:], strict=True)
    ):
        name = f"listeners[{at}]"
        is_socket = isinstance(table.address, UnixPath)
        unfit = ONLY_TCP if is_socket else ONLY_SOCKETS
        if given := unfit & table.model_fields_set:
            kind = "a Unix socket" if is_socket else "a TCP address"
            keys = " or ".join(sorted(given))
            yield (), f"{name}: {kind} can't have {keys}; remove that"
        if bool(table.cert_file) != bool(table.key_file):
            yield (), f"{name}.cert_file and {name}.key_file: set both or neither"
        if table.identity == ANONYMOUS:
            fault = f"write another name than {ANONYMOUS}, or leave it out"
            yield (), f"{name}.identity: {fault}"
        if listener.client_auth == "required" and not (
            listener.files and listener.files.client_ca_file
        ):
            fault = "set tls.client_ca_file too, and cert_file and key_file here or in"
            yield AUTHORITIES, f"{name}.client_auth required: {fault} [tls]"


def _address_faults(
    settings: Settings, listeners: Sequence[ListenerSettings]
) -> Iterator[Finding]:
    """Yield a fault for each address that two settings have."""
    seen: dict[Address | UnixPath, str] = {settings.admin_listen: "admin_listen"}
    for each in listeners:
        address = each.address
        has_any_port = isinstance(address, Address) and address.port == 0
        if address in seen and not has_any_port:
            fault = f"{seen[address]} has the same address; change one of them"
            yield ("listen", "admin_listen"), f"{each.name} {address}: {fault}"
        seen.setdefault(address, each.name)
