"""The parts of a gateway whose state the metrics and the status page show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from healthomics_gateway.app.interceptor_stack import Bounds, Guards
from healthomics_gateway.app.listeners import Listeners
from healthomics_gateway.app.reload import Reloads
from healthomics_gateway.app.wiring import UpstreamParts
from healthomics_gateway.auth.keyring import Keyring
from healthomics_gateway.runs.cache import Cache
from healthomics_gateway.services.readiness import Readiness
from healthomics_gateway.services.run_service import RunService
from healthomics_gateway.settings.schema import Settings
from healthomics_gateway.telemetry.metrics.parts import RuleCalls
from healthomics_gateway.telemetry.recent import RecentErrors
from healthomics_gateway.upstream.config import Aws

# Returns the numbers of lost lines of the audit log, and of other lines.
LostLines = Callable[[], tuple[int, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of a gateway whose state is shown."""

    settings: Callable[[], Settings]  # as they are now, after reloads
    aws: Aws
    readiness: Readiness
    upstream: UpstreamParts
    listeners: Listeners
    admin_address: Callable[[], str]
    bounds: Bounds
    guards: Guards
    cache: Cache
    service: RunService
    keyring: Keyring | None
    reloads: Reloads
    errors: RecentErrors
    rule_calls: RuleCalls
    lost_lines: LostLines
