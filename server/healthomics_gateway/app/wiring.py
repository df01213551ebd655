"""Composes the sources of runs and RunService from the settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from healthomics_gateway.app.scheduling import make_schedulers
from healthomics_gateway.app.sharing import Sharing
from healthomics_gateway.app.sharing_wiring import SharedRuns
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.runs.attempts import MeasuredAttempts
from healthomics_gateway.runs.cache import Cache, Caching
from healthomics_gateway.runs.coalesce import Coalescing
from healthomics_gateway.runs.rate_limit import RateLimited, Schedulers
from healthomics_gateway.runs.retry import Retrying
from healthomics_gateway.runs.source import RunSource
from healthomics_gateway.runs.span_records import not_traced, queued
from healthomics_gateway.runs.traced import TracedPolls
from healthomics_gateway.runs.watch import Watches
from healthomics_gateway.services.limits import Limits
from healthomics_gateway.services.run_service import RunService
from healthomics_gateway.settings.schema import Settings
from healthomics_gateway.telemetry.metrics.registry import Metrics
from healthomics_gateway.telemetry.spans import Tracer
from healthomics_gateway.upstream.clock import Clock
from healthomics_gateway.upstream.config import Aws
from healthomics_gateway.upstream.healthomics import HealthOmics
from healthomics_gateway.upstream.provider import CredentialsProvider, Report
from healthomics_gateway.upstream.roles import Roles
from healthomics_gateway.upstream.sts import Sts
from healthomics_gateway.upstream.traced import TracedAttempts
from healthomics_gateway.upstream.transport import Transport

MIB = 1_048_576


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamParts:
    """The sources and clients that send requests to AWS."""

    roles: Roles  # the innermost source of runs
    attempts: RunSource  # the same, measured, and traced if calls are
    sts: Sts
    provider: CredentialsProvider  # of the gateway
    schedulers: Schedulers  # of all attempts
    poll_schedulers: Schedulers  # of the polls of watches, in addition
    transport: Transport

    async def learn_accounts(self, roles: Sequence[str]) -> None:
        """Prepare the schedulers of the roles of all rules, and drop those of others.

        For the first roles, look up the gateway's account, to know which roles share
        its quota.
        """
        both = (self.schedulers, self.poll_schedulers)
        if roles and self.schedulers.may_learn:
            account = await self.sts.account()
            for each in both:
                each.learn(account)
        for each in both:
            each.prepare(roles)

    async def close(self) -> None:
        """Close all connections and end the background tasks."""
        await self.schedulers.close()
        await self.poll_schedulers.close()
        await self.roles.close()
        await self.provider.close()
        await self.transport.close()


def make_upstream(
    settings: Settings,
    aws: Aws,
    *,
    report: Report,
    metrics: Metrics,
    tracer: Tracer | None = None,
    reached: Callable[[Reason | None], None] = lambda _: None,
    sharing: Sharing | None = None,
) -> UpstreamParts:
    """Create the sources and clients for AWS.

    `report` gets the state of the part `aws`, and `reached` the end of each attempt.
    With a `tracer` the attempts are traced, and with `sharing` replicas share quotas.
    """
    upstream = settings.upstream
    provider, clock = aws.provider(report), Clock()
    schedulers, poll_schedulers = make_schedulers(settings, metrics, sharing)
    sts = Sts(provider, client=aws.sts, region=aws.region, clock=clock)
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
        provider,
        region=aws.region,
        endpoint=aws.endpoint,
        report=report,
        reached=reached,
        clock=clock,
        depart=schedulers.depart,
    )
    roles = Roles(healthomics, provider=sts.provider)
    traced = TracedAttempts(roles, endpoint=aws.endpoint) if tracer else roles
    return UpstreamParts(
        roles=roles,
        attempts=MeasuredAttempts(traced, metrics.attempts),
        sts=sts,
        provider=provider,
        schedulers=schedulers,
        poll_schedulers=poll_schedulers,
        transport=transport,
    )


def make_run_service(
    settings: Settings,
    upstream: UpstreamParts,
    *,
    cache: Cache,
    metrics: Metrics,
    shared: SharedRuns,
    refusal_seconds: float,
    tracer: Tracer | None = None,
) -> RunService:
    """Create RunService over the stack of sources, whose answers `cache` keeps.

    A refusal that depends on a run is sent at a multiple of `refusal_seconds` for each
    MiB that an answer may have, so that its time doesn't show whether the run exists.
    `tracer` begins the traces of polls; without it the stack records no spans. `shared`
    is what replicas share of the runs.
    """
    fetched = Coalescing(
        Caching(
            Retrying(
                RateLimited(
                    upstream.attempts,
                    upstream.schedulers,
                    session=upstream.roles.session,
                    waiting=queued if tracer else not_traced,
                ),
                max_attempts=settings.upstream.max_attempts,
            ),
            (cache, shared.answers) if shared.answers else (cache,),
        ),
        turns=upstream.schedulers,
        shared_fetches=metrics.shared_fetches,
    )
    runs = Watches(
        fetched,
        polls=_make_polls(fetched, upstream.poll_schedulers, tracer),
        interval_seconds=settings.watch.interval.total_seconds(),
        metrics=metrics.watch,
        leases=shared.watches,
    )
    return RunService(
        runs,
        watches=runs,
        cache=cache,
        others=shared.answers,
        limits=make_limits(settings, refusal_seconds=refusal_seconds),
    )


def _make_polls(
    fetched: RunSource, schedulers: Schedulers, tracer: Tracer | None
) -> RunSource:
    """Create the source of the polls of watches: `fetched`, with turns of their own."""
    waiting = queued if tracer else not_traced
    polls = RateLimited(fetched, schedulers, waiting=waiting)
    return Coalescing(  # so that all watchers of a run share one turn
        TracedPolls(polls, tracer) if tracer else polls, turns=schedulers
    )


def make_limits(settings: Settings, *, refusal_seconds: float) -> Limits:
    """Return the limits on calls of RunService."""
    cache, watch = settings.cache, settings.watch
    # A larger answer takes longer to read, so refusals take longer too.
    most_mib = max(1.0, settings.upstream.max_body_bytes / MIB)
    return Limits(
        default_deadline_seconds=settings.default_deadline.total_seconds(),
        max_deadline_seconds=settings.max_deadline.total_seconds(),
        max_staleness_seconds=cache.max_staleness.total_seconds(),
        max_staleness_limit_seconds=cache.max_staleness_limit.total_seconds(),
        min_interval_seconds=watch.min_interval.total_seconds(),
        max_stream_seconds=watch.max_stream.total_seconds(),
        withheld=settings.withhold,
        refusal_seconds=refusal_seconds * most_mib,
    )
