"""The composition root: builds the stack, serves, drains."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from math import inf
from types import MappingProxyType

import grpc
import structlog

from healthomics.v1.run_service_pb2_grpc import add_RunServiceServicer_to_server
from healthomics_gateway.access import Rule, neighbour_of
from healthomics_gateway.admin import AdminPages
from healthomics_gateway.certificates import TlsFilesError
from healthomics_gateway.coalesce import Coalescing
from healthomics_gateway.door import ClosedError, Door
from healthomics_gateway.errors import GatewayError, Reason
from healthomics_gateway.health import Health
from healthomics_gateway.interceptors.admit import Admission
from healthomics_gateway.interceptors.authenticate import ByToken
from healthomics_gateway.interceptors.drain import Drain
from healthomics_gateway.interceptors.errors import errors
from healthomics_gateway.interceptors.expire import Expiry
from healthomics_gateway.interceptors.observe import observe
from healthomics_gateway.keys import keyring_of
from healthomics_gateway.kinds import Address
from healthomics_gateway.liveness import Listener, Liveness, accept_loops
from healthomics_gateway.pace import Paced, Pacers
from healthomics_gateway.pacer import Pacer
from healthomics_gateway.places import Places
from healthomics_gateway.readiness import Readiness
from healthomics_gateway.reflection import add_reflection
from healthomics_gateway.retry import Retrying
from healthomics_gateway.schema import Settings
from healthomics_gateway.selection import MEMBERS
from healthomics_gateway.server import OPTIONS, guard_of, make_chain, make_server
from healthomics_gateway.service import REFUSAL_SECONDS, RunService
from healthomics_gateway.supervision import Background
from healthomics_gateway.tokens import Tokens
from healthomics_gateway.upstream.aws import Aws
from healthomics_gateway.upstream.clock import Clock
from healthomics_gateway.upstream.healthomics import HealthOmics
from healthomics_gateway.upstream.roles import Roles
from healthomics_gateway.upstream.sts import Sts
from healthomics_gateway.upstream.transport import Transport
from healthomics_gateway.watch import Watches

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
        upstream = settings.upstream
        self._transport = Transport(
            ca_file=aws.ca_file,
            max_connections=upstream.max_concurrent,
            connect_timeout_seconds=upstream.connect_timeout.total_seconds(),
            attempt_timeout_seconds=upstream.attempt_timeout.total_seconds(),
            max_body_bytes=upstream.max_body_bytes,
        )
        quota, cache, watch = settings.quota, settings.cache, settings.watch
        share, places = watch.quota_share, Places(upstream.max_concurrent)
        self._pacers = Pacers(
            lambda: Pacer(
                tps=quota.tps, burst=quota.burst, poll_share=share, places=places
            )
        )
        self._poll_pacers = Pacers(
            lambda: Pacer(
                tps=quota.tps * share,
                burst=max(1.0, quota.burst * share),
                poll_share=share,
                places=Places(inf),  # a poll takes one of the others with its fetch
            )
        )
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
        self._admission = Admission(max_in_flight=settings.max_in_flight)
        self._watching = Admission(max_in_flight=watch.max_open)
        self._drain = Drain()
        self._health = Health(self._readiness)
        self._door = Door(settings.listen, files=settings.tls.files)
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
        if settings.tls.cert_file:
            self._readiness.add("certificate", fault=lambda: self._door.fault)
        self._server = self._make_server(
            RunService(
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
                refusal_seconds=refusal_seconds
                * max(1.0, upstream.max_body_bytes / MIB),
            ),
            options,
        )
        self._admin = AdminPages(self._readiness)
        self.address = settings.listen
        self.admin_address = settings.admin_listen

    def _make_server(
        self, service: RunService, options: Sequence[tuple[str, int]]
    ) -> grpc.aio.Server:
        max_in_flight, watch = self._settings.max_in_flight, self._settings.watch
        expiry = Expiry()
        if self._keyring:
            self._keyring.on_change(expiry.check)
        chain = make_chain(
            outer=(observe, errors(debug=self._settings.errors.debug)),
            guard=guard_of(
                [Rule(**each.model_dump()) for each in self._settings.callers],
                by_certificate=self._door.by_certificate,
                by_token=self._by_token(),
                expiry=expiry,
            ),
            admission=self._admission,
            watching=self._watching,
            drain=self._drain,
            open_services=self._settings.open_services,
            # Those who send no message leave half of the room to the others.
            max_waiting=max_in_flight // 2 + 1,
            peer_of=self._door.peer_of,
        )
        self._liveness = Liveness(accepted=lambda: chain.accepted)
        server = make_server(
            chain,
            options=options,
            max_in_flight=max_in_flight,
            max_open=watch.max_open,
            max_stream_seconds=watch.max_stream.total_seconds(),
        )
        add_RunServiceServicer_to_server(service, server)
        self._health.add_to(server)
        add_reflection(server)
        return server

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
    def in_flight(self) -> int:
        """How many calls are inside, watches too."""
        return self._admission.inside + self._watching.inside

    async def start(self) -> None:
        """Listen on both addresses, or raise ListenError with both faults."""
        await self._learn_account()
        faults: list[str] = []
        try:
            self.admin_address = await self._start_admin(self._settings.admin_listen)
        except OSError:
            faults.append(_listen_fault("admin_listen", self.admin_address))
        others = accept_loops()
        try:
            self.address = await self._door.open(self._server)
        except TlsFilesError as error:
            faults += error.args
        except ClosedError:
            faults.append(_listen_fault("listen", self.address))
        if faults:
            raise ListenError(*faults)
        self._liveness.watch(accept_loops() - others)
        self._background.start("listeners", self._probe)
        self._background.start("aws", self._look_for_credentials)
        self._background.start("certificate", self._door.follow)
        if self._keyring:
            self._background.start("keys", self._keyring.follow)
        if self._settings.tls.files is None and not self.address.is_loopback:
            _log.warning("serving_plaintext", address=str(self.address))
        _log.info(
            "serving", address=str(self.address), admin_address=str(self.admin_address)
        )
        withheld = self._settings.withhold.union(
            *(each.withhold for each in self._settings.callers)
        )
        for each in self._settings.callers:
            if other := neighbour_of(each.identity):
                _log.warning(
                    "identity_also_matches", identity=each.identity, other=other
                )
        for name in sorted(withheld - MEMBERS.keys()):
            _log.warning("withholding_unknown_member", member=name)

    async def died(self) -> str:
        """Wait until no new call can come in; make that known, and return why."""
        fault = await self._liveness.end()
        self._readiness.die(fault)
        return fault

    async def drain(self, seconds: float) -> None:
        """Send callers elsewhere; serve on until they have gone, or for `seconds`."""
        _log.info("draining", seconds=seconds)
        self._readiness.drain()
        await self._drain.drain(seconds)
        await self.evict()

    async def evict(self) -> None:
        """End every call that is inside or still comes, in less than 1 s."""
        await self._drain.evict(EVICTION_SECONDS)
        await asyncio.sleep(GOING_SECONDS)  # gRPC doesn't tell when they are sent

    async def stop(self) -> None:
        """End what is listening and what goes on in the background, at once.

        Takes at most STOP_SECONDS, whatever is left then.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await self._stop()

    async def _stop(self) -> None:
        await self._background.stop()
        # The server raises what its accept loop has raised.
        await asyncio.gather(self._server.stop(None), return_exceptions=True)
        await self._admin.stop()
        await self._door.close()
        if self._keyring:
            await self._keyring.close()
        await self._roles.close()
        await self._identity.close()
        await self._transport.close()

    async def _start_admin(self, address: Address) -> Address:
        port = await self._admin.start(address.host.strip("[]"), address.port)
        return Address(address.host, port)

    async def _probe(self) -> None:
        """Probe the address again and again, until nothing answers there."""
        tls = self._settings.tls
        is_open = "Health" in self._settings.open_services
        await self._liveness.probe(
            Listener(
                address=str(self.address),
                is_tls=tls.files is not None,
                takes_calls=is_open and tls.client_auth != "required",
            )
        )

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


def _listen_fault(name: str, address: Address) -> str:
    return f"{name} {address}: it can't be bound; is it in use?"
