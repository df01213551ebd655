"""Serves a certificate from files, and reloads it when the files change."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import grpc
import structlog

from healthomics_gateway.threads import OneAtATime
from healthomics_gateway.tls.files import (
    Certified,
    ClientAuth,
    TlsFiles,
    TlsFilesError,
    when_text,
)

CHECK_SECONDS = 2.0  # between two checks of the files
READ_SECONDS = 5.0  # for a check; a longer one continues in its thread

_log = structlog.get_logger("tls")


def now_utc() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


class ServerTls:
    """The certificate, its key and the client authorities, as their files are now.

    If the files become invalid, the last valid contents are still served, and `fault`
    has the reason.
    """

    def __init__(
        self,
        files: TlsFiles,
        *,
        now: Callable[[], datetime] = now_utc,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """Load the files. Raises TlsFilesError with all faults."""
        self._files = files
        self._now = now
        self._sleep = sleep
        self._served = files.load(now())
        self._faults: tuple[str, ...] = ()
        self._thread = OneAtATime("certificate")  # as reading a file may hang

    @property
    def fault(self) -> str:
        """Return the faults of the files and the certificate, or an empty text."""
        return "; ".join(self._faults)

    @property
    def served_until(self) -> str:
        """Return when the served certificate expires; empty if it has expired."""
        not_after = self._served.not_after
        return when_text(not_after) if self._now() <= not_after else ""

    @property
    def section(self) -> str:
        """Return the name of the files' section of the settings."""
        return self._files.section

    @property
    def served(self) -> Certified:
        """Return the certificate that is served."""
        return self._served

    def credentials(self, *, client_auth: ClientAuth) -> grpc.ServerCredentials:
        """Return the credentials of a server; each handshake uses the newest files."""
        is_required = client_auth == "required"
        given = self._served

        def newer() -> grpc.ServerCertificateConfiguration | None:
            nonlocal given
            newest = self._served  # read once, as the event loop's thread sets it
            if newest.served == given.served:
                return None
            given = newest
            return _configuration(newest, with_clients=is_required)

        return grpc.dynamic_ssl_server_credentials(
            _configuration(given, with_clients=is_required),
            newer,  # type: ignore[arg-type]  # None means no change; the stubs lack it
            require_client_authentication=is_required,
        )

    async def follow(self) -> None:
        """Check the files again and again, until cancelled."""
        while True:
            await self._sleep(CHECK_SECONDS)
            try:
                async with asyncio.timeout(READ_SECONDS):
                    found = await self._thread.run(self._reload)
            except TimeoutError:
                name = f"{self._files.section}.cert_file"
                self._take(self._served, (f"{name}: its files can't be read in time",))
            except TlsFilesError as error:
                self._take(self._served, error.args)
            else:
                self._take(found, ())

    def _reload(self) -> Certified:
        if self._files.read() == self._served.read:
            return self._served
        return self._files.load(self._now())

    def _take(self, found: Certified, refused: tuple[str, ...]) -> None:
        """Serve `found`, and log a change of it or of the faults."""
        faults = refused
        if self._now() > found.not_after:
            until = when_text(found.not_after)
            name = f"{self._files.section}.cert_file"
            faults += (f"{name}: the served certificate expired on {until}",)
        if faults and faults != self._faults:
            until = when_text(found.not_after)
            _log.warning("certificate_fault", faults=faults, served_until=until)
        elif found.served != self._served.served or (self._faults and not faults):
            _log.info(
                _event_of(self._served, found),
                not_after=when_text(found.not_after),
                fingerprint=found.fingerprint,
            )
        self._served, self._faults = found, faults


def _event_of(before: Certified, found: Certified) -> str:
    if found.served == before.served:
        return "certificate_restored"
    if found.served[:2] == before.served[:2]:
        return "client_ca_replaced"
    return "certificate_replaced"


def _configuration(
    certified: Certified, *, with_clients: bool
) -> grpc.ServerCertificateConfiguration:
    chain, key, client_ca = certified.served
    return grpc.ssl_server_certificate_configuration(
        [(key, chain)], client_ca if with_clients else None
    )
