"""Every error the gateway can answer, and its `google.rpc.Status`.

The table is `Reason`; docs/errors.md tells it to clients. Codes are those of
`google.rpc`; an interceptor turns them into gRPC's.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum, auto, unique
from math import inf
from types import MappingProxyType

from google.protobuf.message import Message
from google.rpc import code_pb2 as code
from google.rpc.error_details_pb2 import (
    BadRequest,
    DebugInfo,
    ErrorInfo,
    PreconditionFailure,
    QuotaFailure,
    RequestInfo,
    ResourceInfo,
    RetryInfo,
)
from google.rpc.status_pb2 import Status

DOMAIN = "healthomics-gateway"
MAX_STATUS_BYTES = 4096  # message and details; beyond 8 KiB clients may lose them
MAX_TEXT = 256  # characters of one metadata value
MAX_DEBUG_TEXT = 1024  # characters of AWS's message, where it is let through
MIN_RETRY_MS = 50
MAX_RETRY_MS = 60_000
PACKING_BYTES = 80  # at most what one packed detail adds to its own size

# What is known of the call under way, whatever error it may end in: `runId`, and what
# its sources have tried.
facts: ContextVar[Mapping[str, str]] = ContextVar("facts", default=MappingProxyType({}))

# When the stream under way has to end, in seconds of the monotonic clock.
ends: ContextVar[float] = ContextVar("ends", default=inf)

# Whether its answer came from memory.
remembered: ContextVar[bool] = ContextVar("remembered", default=False)

_UNPRINTABLE = re.compile(r"[^\x20-\x7e]+")


class Advice(Enum):
    """What the client should do with the call that failed."""

    STOP = auto()  # it fails again
    RETRY = auto()  # it may succeed
    WAIT = auto()  # it may succeed, but not before RetryInfo's delay


class Again(Enum):
    """Whether the gateway itself tries once more."""

    NO = auto()
    ONCE = auto()  # once for this reason
    MENDED = auto()  # once, for the gateway has mended what was wrong on its side
    YES = auto()  # while attempts and time are left


class GatewayError(Exception):
    """A call's failure: one reason of the table, and what is known about it."""

    def __init__(
        self,
        reason: Reason,
        *,
        again: Again = Again.NO,
        metadata: Mapping[str, str] | None = None,
        violations: tuple[BadRequest.FieldViolation, ...] = (),
        retry_after_seconds: float | None = None,
        debug: str = "",
    ) -> None:
        """Tell `reason`; `retry_after_seconds` is AWS's wish, `debug` AWS's words."""
        super().__init__(reason.name)
        self.reason = reason
        self.again = again
        self.metadata = dict(metadata or {})
        self.violations = violations
        self.retry_after_seconds = retry_after_seconds
        self.retry_delay_seconds = 0.0
        self.debug = debug
        # Awaited before `again` counts: it may fix the cause, and takes its time.
        self.fix: Callable[[], Awaitable[None]] | None = None

    @property
    def pushback_ms(self) -> int:
        """The wait before a retry, 50 ms to 60 s, or -1 for never (gRFC A6)."""
        if self.reason.value.advice is Advice.STOP:
            return -1
        wait_ms = round(self.retry_delay_seconds * 1000)
        return min(max(wait_ms, MIN_RETRY_MS), MAX_RETRY_MS)


class NotAskedError(GatewayError):
    """A failure before HealthOmics was asked: the gateway itself refuses the call."""

    def __init__(
        self,
        reason: Reason,
        *,
        wait_seconds: float,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Tell `reason`, and when a call would be served."""
        super().__init__(reason, metadata=metadata)
        self.retry_delay_seconds = wait_seconds


def overloaded(jitter: float) -> GatewayError:
    """Turn a caller away for 0.5 to 1.5 s; `jitter`, from [0, 1), parts the callers."""
    error = GatewayError(Reason.GATEWAY_OVERLOADED)
    error.retry_delay_seconds = 0.5 + jitter
    return error


def limited(wait_seconds: float) -> GatewayError:
    """Turn a caller away that has reached a limit of its own, for so long."""
    error = GatewayError(Reason.CALLER_RATE_LIMITED)
    error.retry_delay_seconds = wait_seconds
    return error


def status_of(
    error: GatewayError,
    *,
    metadata: Mapping[str, str],
    request_id: str,
    debug: bool = False,
) -> Status:
    """Tell an error as AIP-193 wants it, in at most 4 KiB.

    `metadata` is ErrorInfo's, `request_id` the call's own; with `debug` AWS's message
    rides along.
    """
    row = error.reason.value
    metadata = {key: _clean(value, MAX_TEXT) for key, value in metadata.items()}
    status = Status(code=row.code, message=row.message)
    _pack(
        status,
        ErrorInfo(reason=error.reason.name, domain=DOMAIN, metadata=metadata),
        RequestInfo(request_id=request_id),
    )
    if error.pushback_ms >= 0:
        info = RetryInfo()
        info.retry_delay.FromMilliseconds(error.pushback_ms)
        _pack(status, info)
    if debug and error.debug:
        _pack(status, DebugInfo(detail=_clean(error.debug, MAX_DEBUG_TEXT)))
    if row.detail:
        room = MAX_STATUS_BYTES - len(row.message) - status.ByteSize() - PACKING_BYTES
        _pack(status, row.detail(error, metadata.get("runId", ""), room))
    return status


def _pack(status: Status, *details: Message) -> None:
    for each in details:
        status.details.add().Pack(each)


def _clean(text: str, limit: int) -> str:
    """Keep printable ASCII: control characters and surrogates break a status."""
    return _UNPRINTABLE.sub(" ", text)[:limit]


def _bad_request(error: GatewayError, _run_id: str, room: int) -> BadRequest:
    """Name as many faults as fit."""
    bad = BadRequest()
    for violation in error.violations:
        bad.field_violations.append(violation)
        if bad.ByteSize() > room:
            bad.field_violations.pop()
            break
    return bad


def _refused_input(*_: object) -> BadRequest:
    text = "HealthOmics finds this id, or its export, invalid."
    return BadRequest(
        field_violations=[BadRequest.FieldViolation(field="id", description=text)]
    )


def _run_resource(_error: GatewayError, run_id: str, _room: int) -> ResourceInfo:
    return ResourceInfo(resource_type="omics.run", resource_name=run_id)


def _run_state(_error: GatewayError, run_id: str, _room: int) -> PreconditionFailure:
    violation = PreconditionFailure.Violation(
        type="RUN_STATE",
        subject=run_id,
        description="The run's current state doesn't allow this.",
    )
    return PreconditionFailure(violations=[violation])


def _call_rate(*_: object) -> QuotaFailure:
    text = "The account's GetRun calls a second in this Region."
    return QuotaFailure(
        violations=[QuotaFailure.Violation(subject="omics:GetRun", description=text)]
    )


def _service_quota(*_: object) -> QuotaFailure:
    text = "A service quota of the account in this Region."
    return QuotaFailure(
        violations=[QuotaFailure.Violation(subject="omics", description=text)]
    )


def _caller_limit(*_: object) -> QuotaFailure:
    text = "What the gateway's operator lets this caller ask for."
    return QuotaFailure(
        violations=[QuotaFailure.Violation(subject="caller", description=text)]
    )


@dataclass(frozen=True, slots=True)
class Row:
    """What the client is told for one reason."""

    code: int  # google.rpc.Code
    advice: Advice
    message: str
    # Is given the error, the run's id and how many bytes are left.
    detail: Callable[[GatewayError, str, int], Message] | None = None


@unique
class Reason(Enum):
    """The table: each `ErrorReason` of the contract, without its prefix."""

    INVALID_REQUEST = Row(
        code.INVALID_ARGUMENT,
        Advice.STOP,
        "The request breaks the contract; the details name each fault.",
        _bad_request,
    )
    MALFORMED_REQUEST = Row(
        code.INVALID_ARGUMENT,
        Advice.STOP,
        "The request's message is missing or can't be decoded.",
    )
    METHOD_UNKNOWN = Row(
        code.UNIMPLEMENTED,
        Advice.STOP,
        "There is no such method.",
    )
    DEADLINE_TOO_SHORT = Row(
        code.DEADLINE_EXCEEDED,
        Advice.STOP,
        "The deadline leaves no time to ask HealthOmics.",
    )
    CALLER_DEADLINE = Row(
        code.DEADLINE_EXCEEDED,
        Advice.STOP,
        "The deadline passed before HealthOmics answered.",
    )
    SERVER_DEADLINE = Row(
        code.DEADLINE_EXCEEDED,
        Advice.STOP,
        "The gateway's default deadline passed before HealthOmics answered.",
    )
    RESPONSE_TOO_LARGE = Row(
        code.RESOURCE_EXHAUSTED,
        Advice.STOP,
        "The answer exceeds 4 MiB; ask for less with read_mask.",
    )
    GATEWAY_OVERLOADED = Row(
        code.UNAVAILABLE,
        Advice.RETRY,
        "This gateway has more calls than it can serve in time.",
    )
    GATEWAY_DRAINING = Row(
        code.UNAVAILABLE,
        Advice.RETRY,
        "This gateway is shutting down.",
    )
    GATEWAY_INTERNAL = Row(
        code.INTERNAL,
        Advice.STOP,
        "The gateway failed; report this with the request id.",
    )
    GATEWAY_CREDENTIALS_UNAVAILABLE = Row(
        code.UNAVAILABLE,
        Advice.RETRY,
        "The gateway has no AWS credentials at the moment.",
    )
    GATEWAY_CREDENTIALS_EXPIRED = Row(
        code.UNAVAILABLE,
        Advice.RETRY,
        "The gateway's AWS credentials expired.",
    )
    GATEWAY_CREDENTIALS_INVALID = Row(
        code.INTERNAL,
        Advice.STOP,
        "AWS doesn't accept the gateway's credentials.",
    )
    GATEWAY_CLOCK_SKEW = Row(
        code.UNAVAILABLE,
        Advice.RETRY,
        "AWS finds the gateway's clock wrong.",
    )
    GATEWAY_SIGNATURE_REJECTED = Row(
        code.INTERNAL,
        Advice.STOP,
        "AWS rejects the gateway's signature.",
    )
    GATEWAY_ACCOUNT_NOT_ENABLED = Row(
        code.INTERNAL,
        Advice.STOP,
        "The gateway's AWS account isn't enabled for HealthOmics.",
    )
    GATEWAY_REQUEST_REJECTED = Row(
        code.INTERNAL,
        Advice.STOP,
        "AWS doesn't understand the gateway's request.",
    )
    RUN_NOT_FOUND = Row(
        code.NOT_FOUND,
        Advice.STOP,
        "There is no run of this id.",
        _run_resource,
    )
    RUN_CONFLICT = Row(
        code.FAILED_PRECONDITION,
        Advice.STOP,
        "The run's current state doesn't allow this.",
        _run_state,
    )
    UPSTREAM_VALIDATION = Row(
        code.INVALID_ARGUMENT,
        Advice.STOP,
        "HealthOmics finds the request invalid.",
        _refused_input,
    )
    UPSTREAM_ACCESS_DENIED = Row(
        code.PERMISSION_DENIED,
        Advice.STOP,
        "AWS refuses the role that the gateway uses for this call.",
    )
    UPSTREAM_QUOTA_EXCEEDED = Row(
        code.RESOURCE_EXHAUSTED,
        Advice.STOP,
        "A service quota of the AWS account is exceeded.",
        _service_quota,
    )
    UPSTREAM_THROTTLED = Row(
        code.RESOURCE_EXHAUSTED,
        Advice.WAIT,
        "The AWS account's rate of GetRun calls is used up.",
        _call_rate,
    )
    UPSTREAM_TIMEOUT = Row(
        code.UNAVAILABLE,
        Advice.RETRY,
        "HealthOmics didn't answer in time.",
    )
    UPSTREAM_INTERNAL = Row(
        code.UNAVAILABLE,
        Advice.RETRY,
        "HealthOmics failed.",
    )
    UPSTREAM_UNAVAILABLE = Row(
        code.UNAVAILABLE,
        Advice.RETRY,
        "HealthOmics is unavailable.",
    )
    UPSTREAM_CONNECTION = Row(
        code.UNAVAILABLE,
        Advice.RETRY,
        "The connection to HealthOmics failed.",
    )
    UPSTREAM_DNS = Row(
        code.UNAVAILABLE,
        Advice.RETRY,
        "The name of the HealthOmics endpoint isn't resolved.",
    )
    UPSTREAM_TLS = Row(
        code.UNAVAILABLE,
        Advice.RETRY,
        "The TLS handshake with HealthOmics failed.",
    )
    UPSTREAM_TLS_UNTRUSTED = Row(
        code.INTERNAL,
        Advice.STOP,
        "The certificate of the HealthOmics endpoint isn't trusted.",
    )
    UPSTREAM_UNRECOGNIZED = Row(
        code.UNKNOWN,
        Advice.STOP,
        "HealthOmics refused with an error that the gateway doesn't know.",
    )
    UPSTREAM_UNEXPECTED_REDIRECT = Row(
        code.INTERNAL,
        Advice.STOP,
        "HealthOmics answered with a redirect, which isn't followed.",
    )
    UPSTREAM_MALFORMED_RESPONSE = Row(
        code.INTERNAL,
        Advice.STOP,
        "HealthOmics' answer can't be read.",
    )
    UPSTREAM_IDENTITY_MISMATCH = Row(
        code.INTERNAL,
        Advice.STOP,
        "HealthOmics' answer is about another run.",
    )
    UPSTREAM_RESPONSE_TOO_LARGE = Row(
        code.INTERNAL,
        Advice.STOP,
        "HealthOmics' answer is larger than the gateway reads.",
    )
    RUN_REPLACED = Row(
        code.NOT_FOUND,
        Advice.STOP,
        "The id names another run than the one that is watched.",
        _run_resource,
    )
    WATCH_RENEW = Row(
        code.UNAVAILABLE,
        Advice.RETRY,
        "The watch has lasted long enough; begin another with the run's uuid.",
    )
    TOKEN_MISSING = Row(
        code.UNAUTHENTICATED,
        Advice.STOP,
        "A token or a client certificate is needed.",
    )
    TOKEN_INVALID = Row(
        code.UNAUTHENTICATED,
        Advice.STOP,
        "The caller's token or certificate isn't accepted.",
    )
    TOKEN_EXPIRED = Row(
        code.UNAUTHENTICATED,
        Advice.STOP,
        "The caller's token or certificate has expired.",
    )
    AUTH_BACKEND_UNAVAILABLE = Row(
        code.UNAVAILABLE,
        Advice.RETRY,
        "The keys that verify tokens can't be had at the moment.",
    )
    CALLER_NOT_AUTHORIZED = Row(
        code.PERMISSION_DENIED,
        Advice.STOP,
        "This caller may not do this.",
    )
    CALLER_RATE_LIMITED = Row(
        code.RESOURCE_EXHAUSTED,
        Advice.WAIT,
        "This caller has reached a limit of its own.",
        _caller_limit,
    )
