"""The parts of a gateway that its servers, its metrics and its status page share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from healthomics_gateway.app import caller_wiring, wiring
from healthomics_gateway.app.interceptor_stack import Bounds, Guards
from healthomics_gateway.app.listeners import Listeners
from healthomics_gateway.app.measuring import add_methods, make_metrics
from healthomics_gateway.app.reload_state import Reloads
from healthomics_gateway.app.sharing import Sharing, make_sharing
from healthomics_gateway.app.sharing_wiring import make_shared_runs
from healthomics_gateway.auth.keyring import Keyring
from healthomics_gateway.net.addresses import Address
from healthomics_gateway.runs.cache import Cache
from healthomics_gateway.services.limits import REFUSAL_SECONDS
from healthomics_gateway.services.names import full_names
from healthomics_gateway.services.reachability import Reachability
from healthomics_gateway.services.readiness import UPSTREAM, Readiness
from healthomics_gateway.services.run_service import RunService
from healthomics_gateway.settings.listener_settings import (
    ListenerSettings,
    listeners_of,
)
from healthomics_gateway.settings.schema import Settings
from healthomics_gateway.telemetry.metrics.registry import Metrics
from healthomics_gateway.telemetry.quota_scope import GATEWAY
from healthomics_gateway.telemetry.recent import RecentErrors
from healthomics_gateway.telemetry.spans import Tracer
from healthomics_gateway.upstream.config import Aws

# Returns the numbers of lost lines of the audit log, and of other lines.
LostLines: TypeAlias = Callable[[], tuple[int, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observability:
    """What a gateway reports about itself to others."""

    metrics: Metrics = field(default_factory=make_metrics)
    tracer: Tracer | None = None  # without one, calls aren't traced
    lost_lines: LostLines = lambda: (0, 0)  # of the log
    errors: RecentErrors = field(default_factory=RecentErrors)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of a gateway."""

    aws: Aws
    readiness: Readiness
    reachability: Reachability
    upstream: wiring.UpstreamParts
    keyring: Keyring | None  # None if tokens aren't verified
    listeners: Listeners
    services: Sequence[str]  # full names of those that any listener serves
    bounds: Bounds
    guards: Guards
    cache: Cache
    service: RunService
    sharing: Sharing | None  # None if nothing is shared with other processes
    reloads: Reloads  # with the settings in effect
    observability: Observability

    @property
    def quota_scope(self) -> str:
        """The scope of the quotas at the moment, one of `telemetry.quota_scope`."""
        return self.sharing.quota_scope if self.sharing else GATEWAY


def make_parts(
    settings: Settings,
    aws: Aws,
    *,
    readiness: Readiness,
    observability: Observability,
    refusal_seconds: float = REFUSAL_SECONDS,
    worker: int | None = None,
    sharing: Sharing | None = None,
) -> Parts:
    """Create the parts; `refusal_seconds` is as in `make_run_service`.

    Workers share their TCP ports, and only `worker` 0 has Unix sockets. `sharing` is
    what they share with other processes; by default it is what the settings say.
    """
    metrics, tracer = observability.metrics, observability.tracer
    sharing = sharing or make_sharing(settings, aws, seconds=metrics.store.seconds)
    reachability = Reachability(lambda why: readiness.report(why, UPSTREAM))
    upstream = wiring.make_upstream(
        settings,
        aws,
        report=readiness.report,
        reached=reachability.note,
        metrics=metrics,
        tracer=tracer,
        sharing=sharing,
    )
    keyring = caller_wiring.make_keyring(
        settings.jwt, report=lambda why: readiness.report(why, "keys")
    )
    listeners = listeners_of(settings)
    services = full_names(name for each in listeners for name in each.services)
    add_methods(metrics, services)
    cache = Cache(max_bytes=settings.cache.max_bytes, ages=metrics.answer_age_seconds)
    return Parts(
        aws=aws,
        readiness=readiness,
        reachability=reachability,
        upstream=upstream,
        keyring=keyring,
        listeners=_make_listeners(listeners, worker),
        services=services,
        bounds=caller_wiring.make_bounds(settings),
        guards=caller_wiring.make_guards(
            settings, keyring, metrics=metrics, sharing=sharing
        ),
        cache=cache,
        service=wiring.make_run_service(
            settings,
            upstream,
            cache=cache,
            metrics=metrics,
            shared=make_shared_runs(settings, sharing, cache, metrics),
            refusal_seconds=refusal_seconds,
            tracer=tracer,
        ),
        sharing=sharing,
        reloads=Reloads(settings),
        observability=observability,
    )


def _make_listeners(
    settings: Sequence[ListenerSettings], worker: int | None
) -> Listeners:
    """Create the listeners of a process: workers but the first have no Unix sockets."""
    own = [each for each in settings if not worker or isinstance(each.address, Address)]
    return Listeners(own, are_shared=worker is not None)
