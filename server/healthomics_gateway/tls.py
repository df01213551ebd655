"""The server's side of TLS: the certificate that is served, and whose client calls."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import grpc
import structlog
from grpc.aio import ServicerContext

from healthomics_gateway.certificates import (
    Certified,
    TlsFiles,
    TlsFilesError,
    when_text,
)

LOOK_SECONDS = 2.0  # between two looks at the files

_log = structlog.get_logger("tls")


@dataclass(frozen=True, slots=True)
class Client:
    """Who is at the other end of a connection."""

    peer: str  # as gRPC names it
    certificate: bytes | None  # verified; PEM; None where it showed none


def client_of(context: ServicerContext[Any, Any]) -> Client:
    """Tell whose call it is, where gRPC itself ends TLS."""
    shown = context.auth_context().get("x509_pem_cert")
    return Client(context.peer(), next(iter(shown)) if shown else None)


def now_utc() -> datetime:
    """Tell the time."""
    return datetime.now(UTC)


class ServerTls:
    """The certificate, its key and the authorities of clients, kept at their files.

    What can't be served isn't: then what was served before stays, and `fault` says so.
    """

    def __init__(
        self,
        files: TlsFiles,
        *,
        now: Callable[[], datetime] = now_utc,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """Load the files; raise TlsFilesError with all faults."""
        self._files = files
        self._now = now
        self._sleep = sleep
        self._served = files.load(now())
        self._faults: tuple[str, ...] = ()

    @property
    def fault(self) -> str:
        """Why what the files hold isn't served, or what is served isn't valid."""
        return "; ".join(self._faults)

    def context(self) -> ssl.SSLContext:
        """Give what the next handshake is made with, where gRPC doesn't end TLS."""
        return self._served.context

    def credentials(self) -> grpc.ServerCredentials:
        """Give gRPC what it ends TLS with; each handshake takes the newest.

        gRPC can't ask for a certificate without insisting: `optional` is `none` here.
        """
        given = self._served

        def newer() -> grpc.ServerCertificateConfiguration | None:
            nonlocal given
            newest = self._served  # once, as the loop's thread sets it
            if newest is given:
                return None
            given = newest
            return _configuration(newest)

        return grpc.dynamic_ssl_server_credentials(
            _configuration(given),
            newer,  # type: ignore[arg-type]  # the stubs leave None out, no change
            require_client_authentication=self._files.client_auth == "required",
        )

    async def follow(self) -> None:
        """Look at the files again and again, until cancelled."""
        while True:
            await self._sleep(LOOK_SECONDS)  # between two looks
            try:
                found = await asyncio.to_thread(self._look)
            except TlsFilesError as error:
                self._take(self._served, error.args)
            else:
                self._take(found, ())

    def _look(self) -> Certified:
        if self._files.read() == self._served.contents:
            return self._served
        return self._files.load(self._now())

    def _take(self, found: Certified, refused: tuple[str, ...]) -> None:
        """Serve what was found, and log what is new about it."""
        faults = refused
        if self._now() > found.not_after:
            until = when_text(found.not_after)
            faults += (f"tls.cert_file: the certificate served expired on {until}",)
        if faults and faults != self._faults:
            _log.warning("certificate_fault", faults=faults)
        elif found is not self._served or (self._faults and not faults):
            _log.info(
                _what_happened(self._served, found),
                not_after=when_text(found.not_after),
                fingerprint=found.fingerprint,
            )
        self._served, self._faults = found, faults


def _what_happened(before: Certified, found: Certified) -> str:
    if found is before:
        return "certificate_restored"
    if found.fingerprint == before.fingerprint:
        return "client_ca_replaced"
    return "certificate_replaced"


def _configuration(served: Certified) -> grpc.ServerCertificateConfiguration:
    chain, key, client_ca = served.contents
    return grpc.ssl_server_certificate_configuration([(key, chain)], client_ca or None)
