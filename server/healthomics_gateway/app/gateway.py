"""The gateway: it composes its parts, listens, and drains."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

import structlog

from healthomics_gateway.app.admin import AdminPages
from healthomics_gateway.app.admin_server import AdminServer
from healthomics_gateway.app.announcement import announce
from healthomics_gateway.app.grpc_server import OPTIONS
from healthomics_gateway.app.listener import ListenError
from healthomics_gateway.app.metric_readers import observe
from healthomics_gateway.app.own_identity import learn_identity
from healthomics_gateway.app.parts import Observability, make_parts
from healthomics_gateway.app.readiness_parts import add_to_readiness
from healthomics_gateway.app.reload import Reload, Reloader, Setters
from healthomics_gateway.app.reload_change import roles_of
from healthomics_gateway.app.server_factory import ServerFactory
from healthomics_gateway.app.sharing import Sharing
from healthomics_gateway.app.statusz.collect import Collector
from healthomics_gateway.background import Background
from healthomics_gateway.configuration_error import ConfigurationError
from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.net.addresses import Address, UnixPath
from healthomics_gateway.services.limits import REFUSAL_SECONDS
from healthomics_gateway.services.readiness import Readiness
from healthomics_gateway.settings.schema import Settings
from healthomics_gateway.upstream.config import Aws

EVICTION_SECONDS = 0.8  # for calls to end that a drain hasn't waited for
STOP_SECONDS = 5.0  # for stopping without a drain, as when the start has failed
SENDING_SECONDS = 0.15  # for sending the last statuses after a drain
FLUSH_SECONDS = 0.2  # for exporting the last spans meanwhile

_log = structlog.get_logger("app")


class Gateway:
    """A gateway with its services, listeners and admin pages."""

    def __init__(
        self,
        settings: Settings,
        aws: Aws,
        *,
        reload: Reload | None = None,
        options: Sequence[tuple[str, int]] = OPTIONS,
        observability: Observability | None = None,
        fault_of_log: Callable[[], str] | None = None,
        refusal_seconds: float = REFUSAL_SECONDS,
        worker: int | None = None,
        sharing: Sharing | None = None,
    ) -> None:
        """Create the parts in a running event loop, without listening yet.

        * With `reload` it follows the configuration file.
        * `options` are gRPC's server options.
        * `stop` closes the tracer of `observability`.
        * `fault_of_log` returns the fault of the log, for `/readyz?verbose`.
        * `refusal_seconds` is the interval of refusals, see `make_run_service`.
        * `worker` is its number if it is one of several that serve these addresses:
          the admin pages are the supervisor's, and only the first has Unix sockets.
        * `sharing` is what it shares with others, if not what the settings say.
        """
        self._settings = settings
        self._worker = worker
        self._background = Background()
        self._readiness = Readiness(
            call_later=asyncio.get_running_loop().call_later,
            fault_of_task=self._background.fault,
        )
        self.parts = make_parts(
            settings,
            aws,
            readiness=self._readiness,
            observability=observability or Observability(),
            refusal_seconds=refusal_seconds,
            worker=worker,
            sharing=sharing,
        )
        self._reloader = self._make_reloader(reload) if reload else None
        add_to_readiness(self.parts, fault_of_log=fault_of_log, reloads=bool(reload))
        observe(self.parts)
        self._server_factory = ServerFactory(settings, self.parts, options=options)
        self.admin_address = settings.admin_listen
        self._admin = self._make_admin_pages()
        self._eviction: asyncio.Task[None] | None = None

    def _make_reloader(self, reload: Reload) -> Reloader:
        parts = self.parts
        setters = Setters(
            log_level=reload.set_log_level,
            withheld=parts.service.withhold,
            rules=parts.guards.replace_rules,
            learn_accounts=parts.upstream.learn_accounts,
        )
        return Reloader(reload, setters=setters, reloads=parts.reloads)

    def _make_admin_pages(self) -> AdminServer:
        collector = Collector(self.parts, admin_address=lambda: str(self.admin_address))
        pages = AdminPages(
            self._readiness,
            metrics=self.parts.observability.metrics,
            snapshot=collector.snapshot,
        )
        return AdminServer(pages.pages)

    @property
    def addresses(self) -> tuple[Address | UnixPath, ...]:
        """Return the addresses of all listeners; after `start` with real ports."""
        return self.parts.listeners.addresses

    @property
    def address(self) -> Address | UnixPath:
        """Return the address of `listen`; after `start` with its real port."""
        return self.addresses[0]

    @property
    def in_flight(self) -> int:
        """Return the number of calls under way, including watches."""
        return self.parts.bounds.in_flight

    async def start(self) -> None:
        """Listen on all addresses; raises ListenError with all faults."""
        if roles := roles_of(self._settings):
            await self.parts.upstream.learn_accounts(roles)
        is_alone = self._worker is None
        faults = await self._open_admin() if is_alone else []
        faults += await self.parts.listeners.open(self._server_factory.make)
        if faults:
            raise ListenError(*faults)
        if is_alone:  # else a probe may reach another worker
            self._background.start("listeners", self.parts.listeners.probe)
        self._background.start("aws", self._read_credentials)
        self._background.start("certificate", self.parts.listeners.follow_certificates)
        if self.parts.keyring:
            self._background.start("keys", self.parts.keyring.follow)
        self._share()
        if self._reloader:
            self._background.start("configuration", self._reloader.follow)
        if is_alone:
            announce(
                self._settings,
                addresses=self.addresses,
                admin_address=self.admin_address,
            )

    def _share(self) -> None:
        """Begin to share with other processes, if the settings say so."""
        if sharing := self.parts.sharing:
            names, upstream = sharing.names, self.parts.upstream
            self._background.start("shared", sharing.replica.follow)
            self._background.start("identity", lambda: learn_identity(names, upstream))

    async def died(self) -> str:
        """Wait until new calls can't reach the gateway; set it unready; return why."""
        fault = await self.parts.listeners.died()
        self._readiness.die(fault)
        return fault

    async def drain(self, seconds: float) -> None:
        """Become unready, serve for at most `seconds` more, then `evict`."""
        _log.info("draining", seconds=round(seconds, 3))
        self.become_unready()
        await self.parts.bounds.drain.drain(seconds)
        await self.evict()

    def become_unready(self) -> None:
        """Report to health's clients that the gateway is about to end, and serve on."""
        self._readiness.drain()

    async def evict(self) -> None:
        """End all calls, including new ones, within 1 s.

        If that is already under way, wait for it: neither a second call nor the
        cancellation of the drain that started it makes it take longer.
        """
        if self._eviction is None:
            self._eviction = asyncio.create_task(self._evict())
        await asyncio.shield(self._eviction)

    async def _evict(self) -> None:
        await self.parts.bounds.drain.evict(EVICTION_SECONDS)
        sent = asyncio.sleep(SENDING_SECONDS)  # gRPC doesn't report when they are sent
        tracer = self.parts.observability.tracer
        flushing = (tracer.flush(FLUSH_SECONDS),) if tracer else ()
        sharing = self.parts.sharing
        leaving = (sharing.replica.leave(),) if sharing else ()
        await asyncio.gather(sent, *flushing, *leaving)
        self.remove_sockets()

    def remove_sockets(self) -> None:
        """Remove the files of Unix sockets, because the process is about to end."""
        self.parts.listeners.remove_sockets()

    async def stop(self) -> None:
        """Stop all servers and background tasks at once, in at most STOP_SECONDS."""
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await self._stop()

    async def _stop(self) -> None:
        await self._background.stop()
        await self.parts.listeners.stop()
        await self._admin.stop()
        if self.parts.keyring:
            await self.parts.keyring.close()
        await self.parts.upstream.close()
        if self.parts.sharing:
            await self.parts.sharing.close()
        if tracer := self.parts.observability.tracer:
            tracer.close()

    async def _open_admin(self) -> list[str]:
        """Listen on the admin address; return the faults."""
        try:
            self.admin_address = await self._admin.listen(self._settings.admin_listen)
        except ConfigurationError as error:
            return list(error.args)
        return []

    async def _read_credentials(self) -> None:
        """Read the credentials before the first call, so that readiness is known."""
        try:
            await self.parts.upstream.provider.credentials()
        except GatewayError:
            return
        self._readiness.report(None)
