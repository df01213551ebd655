"""Authorities, certificates in files, and a TLS server that records its callers."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import trustme

from healthomics_gateway.tls.files import ClientAuth, TlsFiles
from healthomics_gateway.tls.peer import certificate_of
from healthomics_gateway.tls.reloader import ServerTls

HOST = "127.0.0.1"
DAY = timedelta(days=1)
LOOPBACK = f"{HOST}:0"
ECHO = "/test.Echo/Echo"


def chain_of(certificate: trustme.LeafCert) -> bytes:
    """Return a certificate and its intermediate certificates, as PEM."""
    return b"".join(blob.bytes() for blob in certificate.cert_chain_pems)


def key_of(certificate: trustme.LeafCert) -> bytes:
    """Return a certificate's key, as PEM."""
    return certificate.private_key_pem.bytes()


def own_pem(certificate: trustme.LeafCert) -> bytes:
    """Return the certificate alone, as PEM."""
    return certificate.cert_chain_pems[0].bytes()


def root_of(authority: trustme.CA) -> bytes:
    """Return the root certificate, as PEM."""
    return authority.cert_pem.bytes()


def expired(authority: trustme.CA, name: str = HOST) -> trustme.LeafCert:
    """Return a certificate that expired yesterday."""
    now = datetime.now(UTC)
    return authority.issue_cert(name, not_before=now - 2 * DAY, not_after=now - DAY)


def premature(authority: trustme.CA, name: str = HOST) -> trustme.LeafCert:
    """Return a certificate that becomes valid tomorrow."""
    now = datetime.now(UTC)
    return authority.issue_cert(name, not_before=now + DAY, not_after=now + 2 * DAY)


def written(
    certificate: trustme.LeafCert,
    folder: Path,
    *,
    clients: trustme.CA | None = None,
) -> TlsFiles:
    """Write a certificate, its key and the authority of clients into a folder."""
    write(certificate, folder)
    client_ca_file = folder / "client_ca.pem"
    if clients:
        client_ca_file.write_bytes(root_of(clients))
    return TlsFiles(
        cert_file=folder / "cert.pem",
        key_file=folder / "key.pem",
        client_ca_file=client_ca_file if clients else None,
    )


def write(certificate: trustme.LeafCert, folder: Path) -> None:
    """Write a certificate and its key."""
    (folder / "cert.pem").write_bytes(chain_of(certificate))
    (folder / "key.pem").write_bytes(key_of(certificate))


def tls_settings(certificate: trustme.LeafCert, folder: Path) -> dict[str, str]:
    """Write a certificate and its key; return the variables of a gateway with them."""
    files = written(certificate, folder)
    return {
        "GATEWAY_TLS__CERT_FILE": str(files.cert_file),
        "GATEWAY_TLS__KEY_FILE": str(files.key_file),
    }


def aged(file: str | Path) -> str:
    """Return a file's certificate with a negative serial number, as old ones have."""
    der = bytearray(ssl.PEM_cert_to_DER_cert(Path(file).read_text(encoding="ascii")))
    version = b"\xa0\x03\x02\x01\x02"  # the serial number follows these bytes
    der[der.index(version) + len(version) + 2] |= 0x80
    return ssl.DER_cert_to_PEM_cert(bytes(der))


class Steps:
    """A sleep that ends when the test says so."""

    def __init__(self) -> None:
        """Begin with every sleep pending."""
        self._sleepers: asyncio.Queue[asyncio.Future[None]] = asyncio.Queue()
        self._sleeping: asyncio.Future[None] | None = None
        self.seconds = 0.0  # set when the present sleep ends

    async def __call__(self, seconds: float) -> None:
        """Sleep until the next step."""
        self.seconds = seconds
        sleeping = asyncio.get_running_loop().create_future()
        self._sleepers.put_nowait(sleeping)
        await sleeping

    async def begun(self) -> None:
        """Wait until the next sleep begins, as after one that was cancelled."""
        self._sleeping = await self._sleepers.get()

    async def step(self) -> None:
        """End the present sleep, and wait until the next one begins."""
        sleeping = self._sleeping or await self._sleepers.get()
        sleeping.set_result(None)
        self._sleeping = await self._sleepers.get()


class Echo(grpc.GenericRpcHandler):
    """A service that echoes, and records the certificates and peers of its calls."""

    def __init__(self) -> None:
        """Begin without calls."""
        self.certificates: list[bytes | None] = []
        self.peers: list[str] = []

    def service(self, _details: Any) -> grpc.RpcMethodHandler[Any, Any]:
        """Return the same handler for every method."""
        return grpc.unary_unary_rpc_method_handler(self._echo)

    async def _echo(self, request: bytes, context: Any) -> bytes:
        self.certificates.append(certificate_of(context))
        self.peers.append(context.peer())
        return request


@dataclass(slots=True)
class Served:
    """A server that is running."""

    tls: ServerTls
    port: int
    echo: Echo
    steps: Steps

    @property
    def address(self) -> str:
        """Return the server's address."""
        return f"{HOST}:{self.port}"

    async def look(self) -> None:
        """Let the server check its files once, and wait until it has."""
        await self.steps.step()


@asynccontextmanager
async def echoing(files: TlsFiles, **given: Any) -> AsyncIterator[Served]:
    """Serve over TLS; ask for certificates if there are authorities of clients.

    `given` are arguments of ServerTls.
    """
    steps = Steps()
    tls = ServerTls(files, sleep=steps, **given)
    server, echo = grpc.aio.server(), Echo()
    server.add_generic_rpc_handlers((echo,))
    client_auth: ClientAuth = "required" if files.client_ca_file else "none"
    port = server.add_secure_port(f"{HOST}:0", tls.credentials(client_auth=client_auth))
    await server.start()
    following = asyncio.create_task(tls.follow())
    try:
        yield Served(tls, port, echo, steps)
    finally:
        following.cancel()
        await server.stop(0)


@asynccontextmanager
async def channel_to(
    address: str, trusted: bytes, shown: trustme.LeafCert | None = None
) -> AsyncIterator[grpc.aio.Channel]:
    """Open a channel that trusts one authority, and may send a certificate."""
    pair = (key_of(shown), chain_of(shown)) if shown else (None, None)
    credentials = grpc.ssl_channel_credentials(trusted, *pair)
    # Channels to one address with equal credentials share their connection.
    options = (("grpc.use_local_subchannel_pool", 1),)
    async with grpc.aio.secure_channel(address, credentials, options) as channel:
        yield channel


async def echo_over(channel: grpc.aio.Channel, text: bytes = b"echo") -> bytes:
    """Make one call."""
    answer: bytes = await channel.unary_unary(ECHO)(text, timeout=10.0)
    return answer


async def echo(
    address: str, trusted: bytes, shown: trustme.LeafCert | None = None
) -> bytes:
    """Make one call on a channel of its own."""
    async with channel_to(address, trusted, shown) as channel:
        return await echo_over(channel)


@dataclass(frozen=True, slots=True)
class Shaken:
    """A completed handshake."""

    version: str | None
    certificate: bytes  # the server's, as PEM
    session: ssl.SSLSession | None
    is_resumed: bool


async def shake(
    port: int, context: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> Shaken | None:
    """Make one handshake; return None if the server refuses it."""
    return await asyncio.to_thread(_shake, port, context, session)


def _shake(
    port: int, context: ssl.SSLContext, session: ssl.SSLSession | None
) -> Shaken | None:
    try:
        with (
            socket.create_connection((HOST, port), timeout=10) as connection,
            context.wrap_socket(
                connection, server_hostname=HOST, session=session
            ) as tls,
        ):
            # With TLS 1.3 the first byte shows whether the client is accepted.
            if not tls.recv(1):
                return None
            shown = ssl.DER_cert_to_PEM_cert(tls.getpeercert(binary_form=True) or b"")
            shaken = Shaken(
                tls.version(), shown.encode(), tls.session, bool(tls.session_reused)
            )
            with suppress(OSError):  # without it OpenSSL drops the session
                tls.unwrap()
            return shaken
    except OSError:
        return None


def shaking(
    authority: trustme.CA,
    shown: trustme.LeafCert | None = None,
    *,
    version: ssl.TLSVersion | None = None,
    ciphers: str = "DEFAULT@SECLEVEL=0",  # otherwise OpenSSL offers no old versions
    alpn: tuple[str, ...] = ("h2",),
) -> ssl.SSLContext:
    """Return a client's TLS context that trusts one authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    if shown:
        shown.configure_cert(context)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if version:
        context.set_ciphers(ciphers)
        context.minimum_version = context.maximum_version = version
    return context
