"""The data of the status page; docs/guide/status-page.md documents it as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from healthomics_gateway.services.readiness import PartState
from healthomics_gateway.telemetry.recent import Failure, ReasonCount, SlotUse

# A null is a value that isn't known or doesn't exist. All times are in UTC.


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """The calls under way, without watches."""

    open: int
    max_open: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaState:
    """The quota of one AWS account."""

    account: str  # `own`, or the id of the account of a rule's role
    scope: str  # `gateway`, or `all` if gateways with the same store share it
    limit_per_second: float  # `quota.tps`, or the gateway's share without the store
    rate_per_second: float  # at the moment: lower after a throttle
    tokens: float  # calls that could be sent at once
    waiting_calls: int
    waiting_polls: int  # of watches
    used: int  # in all slots together, as the next two
    left: int
    throttled: int
    slots: Sequence[SlotUse]  # of 15 s, at most 60, the oldest first


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchState:
    """The open watches."""

    open: int
    max_open: int
    runs: int  # that are watched


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheState:
    """The cache of answers."""

    runs: int
    bytes: int
    max_bytes: int
    hits: int
    misses: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorState:
    """The failed calls; identities are null with `statusz.identities = false`."""

    by_reason: Sequence[ReasonCount]  # the most frequent first
    newest: Sequence[Failure]  # 20, the newest first


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialState:
    """The gateway's own AWS credentials."""

    usable: bool
    expires: datetime | None
    expires_in_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateState:
    """A server certificate."""

    section: str  # of the settings that name its files
    expires: datetime
    expires_in_seconds: float
    fingerprint: str  # SHA-256
    fault: str  # of its files; empty if there is none


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyState:
    """The keys that verify tokens."""

    keys: int
    age_seconds: float | None  # since they were read
    due_seconds: float  # until they are read again
    fault: str  # of the last read; empty if there is none


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleState:
    """A rule on callers."""

    rule: int  # its number in order; the first is 1
    identity: str | None  # its pattern; null with `statusz.identities = false`
    methods: Sequence[str]
    calls: int  # that matched it, since the rule was set


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A setting in effect."""

    name: str
    value: str
    is_default: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerState:
    """A worker; a null is unknown until it has reported."""

    worker: int  # its number; the first is 0
    pid: int | None  # null while it isn't running
    ready: bool
    reason: str  # why it isn't ready; empty if it is
    fault: str  # what is wrong with its process; empty if nothing is
    calls: int | None  # under way, without watches
    watches: int | None
    memory_bytes: int | None
    uptime_seconds: float | None
    restarts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything that the status page shows."""

    host: str  # the name of the machine, or of the pod
    version: str
    python_version: str
    grpc_version: str
    time: datetime
    started: datetime
    uptime_seconds: float
    ready: bool
    reason: str  # why the gateway isn't ready; empty if it is
    live: bool
    draining: bool
    parts: Sequence[PartState]  # as at /readyz?verbose
    workers: Sequence[WorkerState]  # empty if there is only one process
    addresses: Sequence[str]
    admin_address: str
    region: str
    endpoint: str
    calls: Calls
    quota: Sequence[QuotaState]
    watches: WatchState
    cache: CacheState
    errors: ErrorState
    credentials: CredentialState
    certificates: Sequence[CertificateState]
    keys: KeyState | None  # null if no tokens are verified
    rules: Sequence[RuleState]
    calls_without_rule: int  # also of callers without a proven identity
    settings: Sequence[Setting]
    left_out: Mapping[str, int]  # items beyond the bound of a list, by its name
