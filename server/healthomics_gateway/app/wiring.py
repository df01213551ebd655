"""Composes the parts of a gateway from its settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from healthomics_gateway.auth.keyring import Keyring, keyring_of
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.runs.bulkhead import Bulkhead
from healthomics_gateway.runs.coalesce import Coalescing
from healthomics_gateway.runs.rate_limit import RateLimited, Schedulers
from healthomics_gateway.runs.retry import Retrying
from healthomics_gateway.runs.scheduler import Scheduler
from healthomics_gateway.runs.watch import Watches
from healthomics_gateway.services.run_service import RunService
from healthomics_gateway.settings.schema import Jwt, Settings
from healthomics_gateway.upstream.clock import Clock
from healthomics_gateway.upstream.config import Aws
from healthomics_gateway.upstream.healthomics import HealthOmics
from healthomics_gateway.upstream.identity import Identity, Report
from healthomics_gateway.upstream.roles import Roles
from healthomics_gateway.upstream.sts import Sts
from healthomics_gateway.upstream.transport import Transport

MIB = 1_048_576


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """HealthOmics, and what is needed to ask it."""

    roles: Roles  # the innermost source of runs
    sts: Sts
    identity: Identity  # the gateway's own
    schedulers: Schedulers  # of all attempts
    poll_schedulers: Schedulers  # of the watches' polls, which also take those
    transport: Transport

    async def learn_account(self) -> None:
        """Know which roles share the own account's quota, before the first call."""
        account = await self.sts.account()
        for each in (self.schedulers, self.poll_schedulers):
            each.learn(account)

    async def close(self) -> None:
        """Close every connection, and end what goes on in the background."""
        await self.roles.close()
        await self.identity.close()
        await self.transport.close()


def make_upstream(settings: Settings, aws: Aws, *, report: Report) -> Upstream:
    """Compose what asks HealthOmics; `report` is called for the part `aws`."""
    upstream = settings.upstream
    identity, clock = aws.identity(report), Clock()
    schedulers, poll_schedulers = make_schedulers(settings)
    sts = Sts(identity, client=aws.sts, region=aws.region, clock=clock)
    transport = Transport(
        ca_file=aws.ca_file,
        proxy=aws.proxy,
        max_connections=upstream.max_concurrent,
        connect_timeout_seconds=upstream.connect_timeout.total_seconds(),
        attempt_timeout_seconds=upstream.attempt_timeout.total_seconds(),
        max_body_bytes=upstream.max_body_bytes,
    )
    healthomics = HealthOmics(
        transport,
        identity,
        region=aws.region,
        endpoint=aws.endpoint,
        report=report,
        clock=clock,
        depart=schedulers.depart,
    )
    return Upstream(
        roles=Roles(healthomics, identity=sts.identity),
        sts=sts,
        identity=identity,
        schedulers=schedulers,
        poll_schedulers=poll_schedulers,
        transport=transport,
    )


def make_schedulers(settings: Settings) -> tuple[Schedulers, Schedulers]:
    """Return the schedulers of all attempts, and those of the watches' polls."""
    quota, share = settings.quota, settings.watch.quota_share
    places = Bulkhead(settings.upstream.max_concurrent)
    attempts = Schedulers(
        lambda: Scheduler(
            tps=quota.tps, burst=quota.burst, poll_share=share, places=places
        )
    )
    polls = Schedulers(
        lambda: Scheduler(
            tps=quota.tps * share,
            burst=max(1.0, quota.burst * share),
            poll_share=share,
            places=Bulkhead(inf),  # a poll takes one of the others with its fetch
        )
    )
    return attempts, polls


def make_run_service(
    settings: Settings, upstream: Upstream, *, refusal_seconds: float
) -> RunService:
    """Compose the stack of sources, and RunService over it.

    Refusals about a run leave at multiples of `refusal_seconds` for each MiB that an
    answer may have.
    """
    cache, watch = settings.cache, settings.watch
    fetched = Coalescing(
        Retrying(
            RateLimited(
                upstream.roles, upstream.schedulers, session=upstream.roles.session
            ),
            max_attempts=settings.upstream.max_attempts,
        ),
        turns=upstream.schedulers,
        max_bytes=cache.max_bytes,
    )
    runs = Watches(
        fetched,
        polls=Coalescing(  # so that one turn is enough for all who wait for it
            RateLimited(fetched, upstream.poll_schedulers),
            turns=upstream.poll_schedulers,
            max_bytes=0,
        ),
        interval_seconds=watch.interval.total_seconds(),
    )
    # A larger answer takes longer to read, and so must every refusal.
    most_mib = max(1.0, settings.upstream.max_body_bytes / MIB)
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
        refusal_seconds=refusal_seconds * most_mib,
    )


def make_keyring(
    jwt: Jwt, *, report: Callable[[Reason | None], None]
) -> Keyring | None:
    """Return the issuer's keys, or None if tokens aren't read."""
    return keyring_of(
        jwt.jwks_file,
        jwt.jwks_url,
        ca_file=jwt.ca_file,
        token_file=jwt.jwks_token_file,
        report=report,
    )
