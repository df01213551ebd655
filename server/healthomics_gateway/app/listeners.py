"""All listeners of a gateway: opened, probed and stopped together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import datetime
from typing import TypeAlias

import grpc

from healthomics_gateway.app.listener import Listener, ListenError
from healthomics_gateway.app.liveness import Liveness, Target, accept_loops
from healthomics_gateway.interceptors.chain import Chain
from healthomics_gateway.net.addresses import Address, UnixPath
from healthomics_gateway.settings.listener_settings import ListenerSettings
from healthomics_gateway.tls.files import TlsFiles, TlsFilesError
from healthomics_gateway.tls.reloader import ServerTls

# Returns the server of a listener, with its services, and its chain. The number is that
# of the addresses that all servers are bound to.
MakeServer: TypeAlias = Callable[[Listener, int], tuple[grpc.aio.Server, Chain]]


class Listeners:
    """The listeners, their servers and their certificates."""

    def __init__(
        self, settings: Sequence[ListenerSettings], *, are_shared: bool = False
    ) -> None:
        """Create no listener yet; with `are_shared` other workers serve their ports."""
        self._settings = settings
        self._are_shared = are_shared
        self._listeners: list[Listener] = []
        self._tls: list[ServerTls] = []
        self._liveness: list[Liveness] = []  # one for each listener
        self._servers: list[grpc.aio.Server] = []  # one for each listener

    @property
    def addresses(self) -> tuple[Address | UnixPath, ...]:
        """Return the addresses in order; after `open` with their real ports."""
        return tuple(each.address for each in self._listeners or self._settings)

    @property
    def has_certificates(self) -> bool:
        """Return whether a listener uses TLS."""
        return any(each.files for each in self._settings)

    def certificate_fault(self) -> str:
        """Return the faults of the certificates, or an empty text."""
        return "; ".join(
            f"{each.fault}; the old one is used until {each.served_until}"
            if each.served_until
            else each.fault
            for each in self._tls
            if each.fault
        )

    @property
    def certificate_expiries(self) -> list[tuple[str, datetime | None]]:
        """Return when the certificate of each address expires; None without TLS."""
        return [
            (str(each.address), each.certificate_expires_at) for each in self._listeners
        ]

    @property
    def certificates(self) -> Sequence[ServerTls]:
        """Return the served certificates; those with the same files only once."""
        return self._tls

    async def open(self, make_server: MakeServer) -> list[str]:
        """Listen on all addresses; return the faults."""
        faults = self._load_certificates()
        for each in self._listeners:
            faults += await _faults_of(each, each.prepare())
        if faults:
            return faults
        addresses = sum(each.targets for each in self._listeners)
        for each in self._listeners:
            server, chain = make_server(each, addresses)
            self._servers.append(server)
            liveness = Liveness(accepted=chain.accepted)
            self._liveness.append(liveness)
            before = accept_loops()
            faults += await _faults_of(each, each.open(server))
            liveness.watch(accept_loops() - before)
        return faults

    async def follow_certificates(self) -> None:
        """Use new certificates when their files change, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for each in self._tls:
                tasks.create_task(each.follow())

    async def died(self) -> str:
        """Wait until new calls can't reach one of the listeners; return why."""
        ends = [asyncio.create_task(each.end()) for each in self._liveness]
        try:
            done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in ends:
                each.cancel()
        return next(iter(done)).result()

    async def probe(self) -> None:
        """Probe each address repeatedly; if one doesn't answer, `died` returns."""
        async with asyncio.TaskGroup() as tasks:
            for liveness, listener in zip(self._liveness, self._listeners, strict=True):
                for target in _targets_of(listener):
                    tasks.create_task(liveness.probe(target))

    def remove_sockets(self) -> None:
        """Remove the files of Unix sockets."""
        for each in self._listeners:
            each.close()

    async def stop(self) -> None:
        """Stop all servers at once."""
        for each in self._liveness:
            each.stop()
        # `stop` raises the exception of the accept loop, if there was one.
        stopping = (each.stop(None) for each in self._servers)
        await asyncio.gather(*stopping, return_exceptions=True)
        self.remove_sockets()

    def _load_certificates(self) -> list[str]:
        """Create the listeners; listeners with the same files share a ServerTls."""
        loaded: dict[TlsFiles, ServerTls | None] = {}
        faults: list[str] = []
        for settings in self._settings:
            files = settings.files
            if files and files not in loaded:
                try:
                    loaded[files] = ServerTls(files)
                except TlsFilesError as error:
                    loaded[files] = None
                    faults += error.args
            tls = loaded[files] if files else None
            self._listeners.append(
                Listener(settings, tls=tls, is_shared=self._are_shared)
            )
        self._tls = [each for each in loaded.values() if each]
        return faults


async def _faults_of(listener: Listener, step: Awaitable[None]) -> list[str]:
    """Await a step of a listener's start; return its faults."""
    try:
        await step
    except ListenError as error:
        settings = listener.settings
        return [f"{settings.name} {settings.address}: {error}"]
    return []


def _targets_of(listener: Listener) -> Iterator[Target]:
    """Yield the targets of probes: bound addresses, so that no name is resolved."""
    settings = listener.settings
    is_open = "Health" in settings.open_services & settings.services
    for address in listener.bound:
        yield Target(
            address=address,
            is_tls=settings.files is not None,
            takes_calls=is_open and settings.client_auth != "required",
        )
