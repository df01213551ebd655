"""The composition root: builds the stack, serves, drains."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from math import inf
from types import MappingProxyType

import grpc
import structlog

from healthomics.v1.run_service_pb2_grpc import add_RunServiceServicer_to_server
from healthomics_gateway.app.admin import AdminPages
from healthomics_gateway.app.grpc_server import OPTIONS, make_server, max_connections
from healthomics_gateway.app.interceptor_stack import Bounds, Guards, make_chain
from healthomics_gateway.app.listener import Listener
from healthomics_gateway.app.listeners import Listeners, MakeServer
from healthomics_gateway.auth.keyring import keyring_of
from healthomics_gateway.auth.policy import Rule
from healthomics_gateway.auth.tokens import Tokens
from healthomics_gateway.background import Background
from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.interceptors.audit import observe
from healthomics_gateway.interceptors.authenticate import ByToken
from healthomics_gateway.interceptors.chain import Chain
from healthomics_gateway.interceptors.concurrency import Admission
from healthomics_gateway.interceptors.credential_expiry import Expiry
from healthomics_gateway.interceptors.drain import Drain
from healthomics_gateway.interceptors.first_message import Arrivals
from healthomics_gateway.interceptors.send_buffer import Unread
from healthomics_gateway.interceptors.status import errors
from healthomics_gateway.interceptors.stream_writer import Writer
from healthomics_gateway.net.addresses import Address, UnixPath
from healthomics_gateway.net.hosts import addresses_to_bind, why_not_bound
from healthomics_gateway.runs.bulkhead import Places
from healthomics_gateway.runs.coalesce import Coalescing
from healthomics_gateway.runs.rate_limit import Paced, Pacers
from healthomics_gateway.runs.retry import Retrying
from healthomics_gateway.runs.scheduler import Pacer
from healthomics_gateway.runs.watch import Watches
from healthomics_gateway.services.health import HEALTH, SERVICE, Health
from healthomics_gateway.services.readiness import AWS, Readiness
from healthomics_gateway.services.reflection import add_reflection
from healthomics_gateway.services.run_service import REFUSAL_SECONDS, RunService
from healthomics_gateway.settings.effective import warnings
from healthomics_gateway.settings.endpoints import endpoints_of
from healthomics_gateway.settings.schema import Settings
from healthomics_gateway.upstream.clock import Clock
from healthomics_gateway.upstream.config import Aws
from healthomics_gateway.upstream.healthomics import HealthOmics
from healthomics_gateway.upstream.roles import Roles
from healthomics_gateway.upstream.sts import Sts
from healthomics_gateway.upstream.transport import Transport

MIB = 1_048_576
EVICTION_SECONDS = 0.8  # for what a drain has left inside to end
STOP_SECONDS = 5.0  # for an end without a drain, as after a start that failed
GOING_SECONDS = 0.05  # for the last statuses to leave after a drain

_log = structlog.get_logger("app")


class ListenError(Exception):
    """An address can't be listened on."""


class Gateway:
    """One gateway: its stack, its server and its admin pages."""

    def __init__(
        self,
        settings: Settings,
        aws: Aws,
        *,
        options: Sequence[tuple[str, int]] = OPTIONS,
        parts: Mapping[str, Callable[[], str]] = MappingProxyType({}),
        refusal_seconds: float = REFUSAL_SECONDS,
    ) -> None:
        """Build it, inside a running event loop; nothing is listening yet.

        `options` are gRPC's, for the server. `parts` are those of the process that
        `/readyz?verbose` reports: each returns what is wrong with it, or nothing.
        Refusals about a run leave at multiples of
        `refusal_seconds` for each MiB that an answer may have.
        """
        self._settings = settings
        self._background = Background()
        self._readiness = Readiness(
            call_later=asyncio.get_running_loop().call_later,
            fault_of_task=self._background.fault,
        )
        for name, fault in parts.items():
            self._readiness.add(name, fault=fault)
        self._identity = aws.identity(self._readiness.report)
        unlooked = Reason.GATEWAY_CREDENTIALS_UNAVAILABLE  # until the first look
        self._readiness.add(AWS, fault=self._identity.fault, why=unlooked)
        upstream = settings.upstream
        self._transport = Transport(
            ca_file=aws.ca_file,
            proxy=aws.proxy,
            max_connections=upstream.max_concurrent,
            connect_timeout_seconds=upstream.connect_timeout.total_seconds(),
            attempt_timeout_seconds=upstream.attempt_timeout.total_seconds(),
            max_body_bytes=upstream.max_body_bytes,
        )
        self._pacers, self._poll_pacers = _pacers(settings)
        clock = Clock()
        self._sts = Sts(self._identity, client=aws.sts, region=aws.region, clock=clock)
        self._roles = Roles(
            HealthOmics(
                self._transport,
                self._identity,
                region=aws.region,
                endpoint=aws.endpoint,
                report=self._readiness.report,
                clock=clock,
                depart=self._pacers.depart,
            ),
            identity=self._sts.identity,
        )
        self._service = self._made_service(refusal_seconds)
        self._admission = Admission(max_in_flight=settings.max_in_flight)
        self._watching = Admission(max_in_flight=settings.watch.max_open)
        self._drain = Drain()
        self._eviction: asyncio.Task[None] | None = None
        self._health = Health(self._readiness)
        self._listeners = Listeners(endpoints_of(settings))  # the first: `listen`
        self._options = options
        jwt = settings.jwt
        self._keyring = keyring_of(
            jwt.jwks_file,
            jwt.jwks_url,
            ca_file=jwt.ca_file,
            token_file=jwt.jwks_token_file,
            report=lambda why: self._readiness.report(why, "keys"),
        )
        if self._keyring:
            unread = Reason.AUTH_BACKEND_UNAVAILABLE  # until a read succeeds
            self._readiness.add("keys", fault=self._keyring.fault, why=unread)
        if self._listeners.has_certificates:
            certificates = self._listeners.certificate_fault
            self._readiness.add("certificate", fault=certificates)
        self._admin = AdminPages(self._readiness)
        self.admin_address = settings.admin_listen

    def _made_service(self, refusal_seconds: float) -> RunService:
        """Return RunService over the stack of sources; the innermost is `_roles`."""
        settings = self._settings
        upstream, cache, watch = settings.upstream, settings.cache, settings.watch
        fetched = Coalescing(
            Retrying(
                Paced(self._roles, self._pacers, session=self._roles.session),
                max_attempts=upstream.max_attempts,
            ),
            turns=self._pacers,
            max_bytes=cache.max_bytes,
        )
        runs = Watches(
            fetched,
            polls=Coalescing(  # so that one turn is enough for all who wait for it
                Paced(fetched, self._poll_pacers), turns=self._poll_pacers, max_bytes=0
            ),
            interval_seconds=watch.interval.total_seconds(),
        )
        return RunService(
            runs,
            watches=runs,
            recent=fetched.recent,
            default_deadline_seconds=settings.default_deadline.total_seconds(),
            max_deadline_seconds=settings.max_deadline.total_seconds(),
            max_staleness_seconds=cache.max_staleness.total_seconds(),
            max_staleness_limit_seconds=cache.max_staleness_limit.total_seconds(),
            min_interval_seconds=watch.min_interval.total_seconds(),
            max_stream_seconds=watch.max_stream.total_seconds(),
            withheld=settings.withhold,
            # A larger answer takes longer to read, and so must every refusal.
            refusal_seconds=refusal_seconds * max(1.0, upstream.max_body_bytes / MIB),
        )

    def _server_maker(self) -> MakeServer:
        """Return what makes a listener's server; all servers share their bounds."""
        settings = self._settings
        expiry = Expiry()
        if self._keyring:
            self._keyring.on_change(expiry.check)
        guards = Guards(
            [Rule(**each.model_dump()) for each in settings.callers],
            by_token=self._by_token(),
            expiry=expiry,
            asks_for_certificates=self._listeners.asks_for_certificates,
        )
        unread = Unread()
        bounds = Bounds(
            admission=self._admission,
            watching=self._watching,
            drain=self._drain,
            arrivals=Arrivals(),
            unread=unread,
            writer=Writer(unread),
        )

        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)

        def make(listener: Listener, addresses: int) -> tuple[grpc.aio.Server, Chain]:
            endpoint = listener.endpoint
            chain = make_chain(
                audit=observe,
                status=errors(debug=settings.errors.debug),
                guard=guards.at(listener.by_connection),
                bounds=bounds,
                open_services=endpoint.open_services,
                listener=str(endpoint.address) if len(self._listeners) > 1 else "",
            )
            server = make_server(
                chain,
                options=self._options,
                max_in_flight=settings.max_in_flight,
                max_open=settings.watch.max_open,
                max_stream_seconds=settings.watch.max_stream.total_seconds(),
                # gRPC counts them for each address that a server is bound to.
                connections=max_connections(
                    settings.upstream.max_concurrent, addresses, files
                ),
            )
            self._add_services(server, endpoint.services)
            return server, chain

        return make

    def _add_services(self, server: grpc.aio.Server, services: frozenset[str]) -> None:
        if "RunService" in services:
            add_RunServiceServicer_to_server(self._service, server)
        if "Health" in services:
            self._health.add_to(server)
        if "Reflection" in services:
            known = {"RunService": SERVICE, "Health": HEALTH}
            beside = [full for name, full in known.items() if name in services]
            add_reflection(server, beside=beside)

    def _by_token(self) -> ByToken | None:
        if self._keyring is None:
            return None
        jwt = self._settings.jwt
        return Tokens(
            self._keyring,
            issuer=jwt.issuer or "",
            audiences=jwt.audience,
            algorithms=jwt.algorithms,
            identity_claim=jwt.identity_claim,
            audience_claim=jwt.audience_claim,
            leeway_seconds=jwt.leeway.total_seconds(),
        ).credential_of

    @property
    def addresses(self) -> tuple[Address | UnixPath, ...]:
        """The addresses of all listeners, with their ports once they are open."""
        return self._listeners.addresses

    @property
    def address(self) -> Address | UnixPath:
        """The address of `listen`, with its port once it is open."""
        return self.addresses[0]

    @property
    def in_flight(self) -> int:
        """How many calls are inside, watches too."""
        return self._admission.inside + self._watching.inside

    async def start(self) -> None:
        """Listen on every address, or raise ListenError with all faults."""
        await self._learn_account()
        faults: list[str] = []
        try:
            self.admin_address = await self._start_admin(self._settings.admin_listen)
        except OSError as error:
            fault = f"admin_listen {self.admin_address}: {why_not_bound(error)}"
            faults.append(fault)
        faults += await self._listeners.open(self._server_maker())
        if faults:
            raise ListenError(*faults)
        self._background.start("listeners", self._listeners.probe)
        self._background.start("aws", self._look_for_credentials)
        self._background.start("certificate", self._listeners.follow_certificates)
        if self._keyring:
            self._background.start("keys", self._keyring.follow)
        for address in self._listeners.in_plaintext:
            _log.warning("serving_plaintext", address=str(address))
        own, *others = (str(each) for each in self.addresses)
        listeners = {"listeners": others} if others else {}
        admin = str(self.admin_address)
        _log.info("serving", address=own, admin_address=admin, **listeners)
        self._warn()

    def _warn(self) -> None:
        """Log what is valid in the settings and may not be what was meant."""
        for warning in warnings(self._settings):
            _log.warning("questionable_setting", why=warning)

    async def died(self) -> str:
        """Wait until no new call can come in; make that known, and return why."""
        fault = await self._listeners.died()
        self._readiness.die(fault)
        return fault

    async def drain(self, seconds: float) -> None:
        """Send callers elsewhere; serve on for `seconds` at most, then `evict`."""
        _log.info("draining", seconds=seconds)
        self._readiness.drain()
        await self._drain.drain(seconds)
        await self.evict()

    async def evict(self) -> None:
        """End every call that is inside or still comes, in less than 1 s.

        Where that goes on already, wait for its end: it takes no longer if it is asked
        for twice, or if the drain that began it is cancelled.
        """
        if self._eviction is None:
            self._eviction = asyncio.create_task(self._evict())
        await asyncio.shield(self._eviction)

    async def _evict(self) -> None:
        await self._drain.evict(EVICTION_SECONDS)
        await asyncio.sleep(GOING_SECONDS)  # gRPC doesn't tell when they are sent
        self.remove_sockets()

    def remove_sockets(self) -> None:
        """Remove the files of Unix sockets: the process is about to end."""
        self._listeners.remove_sockets()

    async def stop(self) -> None:
        """End what is listening and what goes on in the background, at once.

        Takes at most STOP_SECONDS, whatever is left then.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await self._stop()

    async def _stop(self) -> None:
        await self._background.stop()
        await self._listeners.stop()
        await self._admin.stop()
        if self._keyring:
            await self._keyring.close()
        await self._roles.close()
        await self._identity.close()
        await self._transport.close()

    async def _start_admin(self, address: Address) -> Address:
        host = address.host.strip("[]")
        (first, *others), port = await addresses_to_bind(host, address.port)
        bound = await self._admin.start(first, port, *others)
        return Address(address.host, bound)

    async def _learn_account(self) -> None:
        """Know which roles share the own account's quota, before the first call."""
        if any(each.aws_role for each in self._settings.callers):
            account = await self._sts.account()
            for pacers in (self._pacers, self._poll_pacers):
                pacers.learn(account)

    async def _look_for_credentials(self) -> None:
        """Look before the first call does, so that readiness tells the truth early."""
        try:
            await self._identity.credentials()
        except GatewayError:
            return
        self._readiness.report(None)


def _pacers(settings: Settings) -> tuple[Pacers, Pacers]:
    """Return the pacers of all attempts, and those that bound the watches' polls."""
    quota, share = settings.quota, settings.watch.quota_share
    places = Places(settings.upstream.max_concurrent)
    attempts = Pacers(
        lambda: Pacer(tps=quota.tps, burst=quota.burst, poll_share=share, places=places)
    )
    polls = Pacers(
        lambda: Pacer(
            tps=quota.tps * share,
            burst=max(1.0, quota.burst * share),
            poll_share=share,
            places=Places(inf),  # a poll takes one of the others with its fetch
        )
    )
    return attempts, polls
