"""The gateway: it composes its parts, listens, and drains."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType

import structlog

from healthomics_gateway.app import wiring
from healthomics_gateway.app.admin import AdminPages
from healthomics_gateway.app.grpc_server import OPTIONS
from healthomics_gateway.app.interceptor_stack import Guards
from healthomics_gateway.app.listener import ListenError
from healthomics_gateway.app.listeners import Listeners
from healthomics_gateway.app.measuring import make_metrics, observe
from healthomics_gateway.app.parts import LostLines, Parts
from healthomics_gateway.app.reload import (
    Reload,
    Reloader,
    Reloads,
    Setters,
    roles_of,
)
from healthomics_gateway.app.server_factory import ServerFactory
from healthomics_gateway.app.statusz.collect import Collector
from healthomics_gateway.background import Background
from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.net.addresses import Address, UnixPath
from healthomics_gateway.net.hosts import addresses_to_bind, why_not_bound
from healthomics_gateway.runs.cache import Cache
from healthomics_gateway.services.health import Health
from healthomics_gateway.services.limits import REFUSAL_SECONDS
from healthomics_gateway.services.reachability import Reachability
from healthomics_gateway.services.readiness import AWS, UPSTREAM, Readiness
from healthomics_gateway.services.run_service import RunService
from healthomics_gateway.settings.effective import warnings
from healthomics_gateway.settings.listener_settings import listeners_of
from healthomics_gateway.settings.schema import Settings
from healthomics_gateway.telemetry.metrics.registry import Metrics
from healthomics_gateway.telemetry.recent import RecentErrors
from healthomics_gateway.telemetry.spans import Tracer
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
        parts: Mapping[str, Callable[[], str]] = MappingProxyType({}),
        lost_lines: LostLines = lambda: (0, 0),
        metrics: Metrics | None = None,
        refusal_seconds: float = REFUSAL_SECONDS,
        tracer: Tracer | None = None,
    ) -> None:
        """Create the parts in a running event loop, without listening yet.

        * With `reload` it follows the configuration file.
        * `options` are gRPC's server options.
        * `parts` are more parts for `/readyz?verbose`, by name; each returns its fault,
          or an empty text.
        * `lost_lines` returns how many lines of the log were lost.
        * `metrics` are new ones by default.
        * `refusal_seconds` is the interval of refusals, see `make_run_service`.
        * Calls are traced if there is a `tracer`, which `stop` closes.
        """
        self._settings = settings
        self._background = Background()
        self._readiness = readiness = Readiness(
            call_later=asyncio.get_running_loop().call_later,
            fault_of_task=self._background.fault,
        )
        self.metrics = metrics = metrics or make_metrics()
        self._tracer = tracer
        self._reachability = Reachability(lambda why: readiness.report(why, UPSTREAM))
        self._upstream = wiring.make_upstream(
            settings,
            aws,
            report=readiness.report,
            metrics=metrics,
            tracer=tracer,
            reached=self._reachability.note,
        )
        self._keyring = wiring.make_keyring(
            settings.jwt, report=lambda why: readiness.report(why, "keys")
        )
        self._listeners = Listeners(listeners_of(settings))  # `listen` is the first
        self._bounds = wiring.make_bounds(settings)
        cache = Cache(
            max_bytes=settings.cache.max_bytes, ages=metrics.answer_age_seconds
        )
        guards = wiring.make_guards(settings, self._keyring, metrics=metrics)
        service = wiring.make_run_service(
            settings,
            self._upstream,
            cache=cache,
            metrics=metrics,
            refusal_seconds=refusal_seconds,
            tracer=tracer,
        )
        errors = RecentErrors()
        self._server_factory = ServerFactory(
            settings,
            guards=guards,
            bounds=self._bounds,
            service=service,
            health=Health(readiness),
            metrics=metrics,
            failed=errors.add,
            options=options,
            tracer=tracer,
        )
        self.reloads = Reloads()
        self._reloader = reload and self._make_reloader(reload, guards, service)
        self._add_parts(parts)
        observed = Parts(
            settings=lambda: self.settings,
            aws=aws,
            readiness=readiness,
            upstream=self._upstream,
            listeners=self._listeners,
            admin_address=lambda: str(self.admin_address),
            bounds=self._bounds,
            guards=guards,
            cache=cache,
            service=service,
            keyring=self._keyring,
            reloads=self.reloads,
            errors=errors,
            rule_calls=metrics.rules,
            lost_lines=lost_lines,
        )
        observe(metrics, observed)
        snapshot = Collector(observed).snapshot
        self._admin = AdminPages(readiness, metrics=metrics, snapshot=snapshot)
        self.admin_address = settings.admin_listen
        self._eviction: asyncio.Task[None] | None = None

    def _make_reloader(
        self, reload: Reload, guards: Guards, service: RunService
    ) -> Reloader:
        setters = Setters(
            log_level=reload.set_log_level,
            withheld=service.withhold,
            rules=guards.replace_rules,
            learn_accounts=self._upstream.learn_accounts,
        )
        return Reloader(reload, self._settings, setters=setters, reloads=self.reloads)

    def _add_parts(self, parts: Mapping[str, Callable[[], str]]) -> None:
        """Add to readiness the parts that the settings enable."""
        for name, fault in parts.items():
            self._readiness.add(name, fault=fault)
        unknown = Reason.GATEWAY_CREDENTIALS_UNAVAILABLE  # until they are read
        self._readiness.add(AWS, fault=self._upstream.provider.fault, why=unknown)
        self._readiness.add(UPSTREAM, fault=self._reachability.fault)
        if self._keyring:
            unread = Reason.AUTH_BACKEND_UNAVAILABLE  # until they are read
            self._readiness.add("keys", fault=self._keyring.fault, why=unread)
        if self._listeners.has_certificates:
            certificates = self._listeners.certificate_fault
            self._readiness.add("certificate", fault=certificates)
        if self._reloader:
            self._readiness.add("configuration", fault=lambda: self.reloads.fault)

    @property
    def addresses(self) -> tuple[Address | UnixPath, ...]:
        """Return the addresses of all listeners; after `start` with real ports."""
        return self._listeners.addresses

    @property
    def address(self) -> Address | UnixPath:
        """Return the address of `listen`; after `start` with its real port."""
        return self.addresses[0]

    @property
    def settings(self) -> Settings:
        """Return the settings as they are now, after reloads."""
        return self._reloader.running if self._reloader else self._settings

    @property
    def in_flight(self) -> int:
        """Return the number of calls under way, including watches."""
        return self._bounds.in_flight

    async def start(self) -> None:
        """Listen on all addresses; raises ListenError with all faults."""
        if roles := roles_of(self._settings):
            await self._upstream.learn_accounts(roles)
        faults: list[str] = []
        try:
            self.admin_address = await self._start_admin(self._settings.admin_listen)
        except OSError as error:
            fault = f"admin_listen {self.admin_address}: {why_not_bound(error)}"
            faults.append(fault)
        faults += await self._listeners.open(self._server_factory.make)
        if faults:
            raise ListenError(*faults)
        self._background.start("listeners", self._listeners.probe)
        self._background.start("aws", self._read_credentials)
        self._background.start("certificate", self._listeners.follow_certificates)
        if self._keyring:
            self._background.start("keys", self._keyring.follow)
        if self._reloader:
            self._background.start("configuration", self._reloader.follow)
        for address in self._listeners.in_plaintext:
            _log.warning("serving_plaintext", address=str(address))
        own, *others = (str(each) for each in self.addresses)
        listeners = {"listeners": others} if others else {}
        admin = str(self.admin_address)
        _log.info("serving", address=own, admin_address=admin, **listeners)
        self._warn()

    def _warn(self) -> None:
        """Log the settings that are valid but may be a mistake."""
        for warning in warnings(self._settings):
            _log.warning("questionable_setting", why=warning)

    async def died(self) -> str:
        """Wait until new calls can't reach the gateway; set it unready; return why."""
        fault = await self._listeners.died()
        self._readiness.die(fault)
        return fault

    async def drain(self, seconds: float) -> None:
        """Become unready, serve for at most `seconds` more, then `evict`."""
        _log.info("draining", seconds=seconds)
        self._readiness.drain()
        await self._bounds.drain.drain(seconds)
        await self.evict()

    async def evict(self) -> None:
        """End all calls, including new ones, within 1 s.

        If that is already under way, wait for it: neither a second call nor the
        cancellation of the drain that started it makes it take longer.
        """
        if self._eviction is None:
            self._eviction = asyncio.create_task(self._evict())
        await asyncio.shield(self._eviction)

    async def _evict(self) -> None:
        await self._bounds.drain.evict(EVICTION_SECONDS)
        # gRPC doesn't report when statuses are sent.
        sent = asyncio.sleep(SENDING_SECONDS)
        flushed = (self._tracer.flushed(FLUSH_SECONDS),) if self._tracer else ()
        await asyncio.gather(sent, *flushed)
        self.remove_sockets()

    def remove_sockets(self) -> None:
        """Remove the files of Unix sockets, because the process is about to end."""
        self._listeners.remove_sockets()

    async def stop(self) -> None:
        """Stop all servers and background tasks at once, in at most STOP_SECONDS."""
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await self._stop()

    async def _stop(self) -> None:
        await self._background.stop()
        await self._listeners.stop()
        await self._admin.stop()
        if self._keyring:
            await self._keyring.close()
        await self._upstream.close()
        if self._tracer:
            self._tracer.close()

    async def _start_admin(self, address: Address) -> Address:
        (first, *others), port = await addresses_to_bind(address.host, address.port)
        bound = await self._admin.start(first, port, *others)
        return Address(address.host, bound)

    async def _read_credentials(self) -> None:
        """Read the credentials before the first call, so that readiness is known."""
        try:
            await self._upstream.provider.credentials()
        except GatewayError:
            return
        self._readiness.report(None)
