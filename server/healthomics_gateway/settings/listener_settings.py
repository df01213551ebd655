"""The settings of each listener, with all defaults applied."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from healthomics_gateway.auth.policy import ANONYMOUS
from healthomics_gateway.net.addresses import Address, UnixPath
from healthomics_gateway.tls.files import ClientAuth, TlsFiles

if TYPE_CHECKING:
    from healthomics_gateway.settings.schema import ListenerTable, Settings

SOCKET_MODE = 0o600
DEFAULT_SERVICES = frozenset({"RunService", "Health", "Reflection"})
CHANNELZ = frozenset({"Channelz"})
OPEN_TO_OTHERS = frozenset({"Health"})
DEFAULT_OPEN_SERVICES = frozenset({"Health", "Reflection"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerSettings:
    """An address to serve gRPC at and its settings, with all defaults applied."""

    name: str  # of the setting of the address: `listen` or `listeners[0].address`
    address: Address | UnixPath
    files: TlsFiles | None = None  # None: plaintext; always None for a Unix socket
    client_auth: ClientAuth = "none"
    services: frozenset[str] = DEFAULT_SERVICES
    open_services: frozenset[str] = DEFAULT_OPEN_SERVICES  # without an identity
    identity: str = ANONYMOUS  # of all callers of a Unix socket
    mode: int = SOCKET_MODE  # of a Unix socket's file

    @property
    def proves_identity(self) -> bool:
        """Return whether a connection alone proves the identity of its caller."""
        return self.client_auth == "required" or self.identity != ANONYMOUS


def listeners_of(settings: Settings) -> tuple[ListenerSettings, ...]:
    """Return the settings of `listen`, then those of `[[listeners]]` in order."""
    tls = settings.tls
    listen = ListenerSettings(
        name="listen",
        address=settings.listen,
        files=_files(settings, tls.cert_file, tls.key_file, "tls"),
        client_auth=tls.client_auth,
        services=_services(settings),
        open_services=_open_services(settings, settings.listen),
    )
    if isinstance(listen.address, UnixPath):
        listen = replace(listen, files=None, client_auth="none")
    further = (_further(settings, *each) for each in enumerate(settings.listeners))
    return listen, *further


def asks_for_certificates(settings: Settings) -> bool:
    """Return whether a listener requires certificates of its clients."""
    return any(each.client_auth == "required" for each in listeners_of(settings))


def _further(settings: Settings, at: int, table: ListenerTable) -> ListenerSettings:
    """Return the settings of a listener, with the defaults of `[tls]`."""
    tls, section = settings.tls, f"listeners[{at}]"
    is_tcp = isinstance(table.address, Address)
    files = (
        _files(settings, table.cert_file, table.key_file, section)
        if table.cert_file
        else _files(settings, tls.cert_file, tls.key_file, "tls")
    )
    return ListenerSettings(
        name=f"{section}.address",
        address=table.address,
        files=files if is_tcp else None,
        client_auth=table.client_auth or tls.client_auth if is_tcp else "none",
        services=table.services or _services(settings),
        open_services=_open_services(settings, table.address),
        identity=table.identity or ANONYMOUS,
        mode=int(table.mode, 8) if table.mode else SOCKET_MODE,
    )


def _files(
    settings: Settings, cert_file: Path | None, key_file: Path | None, section: str
) -> TlsFiles | None:
    """Return the files for TLS, None for plaintext."""
    if not (cert_file and key_file):
        return None
    return TlsFiles(
        cert_file=cert_file,
        key_file=key_file,
        client_ca_file=settings.tls.client_ca_file,
        section=section,
    )


def _services(settings: Settings) -> frozenset[str]:
    """Return the services that are served unless a listener lists its own.

    Channelz is one of them only if `open_services` or a rule names it.
    """
    named = settings.open_services.union(*(each.methods for each in settings.callers))
    return DEFAULT_SERVICES | (CHANNELZ & named)


def _open_services(settings: Settings, address: Address | UnixPath) -> frozenset[str]:
    """Return the services that need no identity.

    If `open_services` isn't set, only Health is open on an address that other machines
    can reach.
    """
    if "open_services" in settings.model_fields_set or address.is_loopback:
        return settings.open_services
    return OPEN_TO_OTHERS
