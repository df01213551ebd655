"""The table of errors: each reason's code, advice, message and details.

Each `Reason` is an `ErrorReason` of the contract without its prefix. Codes are those of
`google.rpc`; `interceptors/status.py` turns them into gRPC's.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto, unique

from google.rpc import code_pb2 as code


class Advice(Enum):
    """What the client should do with the call that failed."""

    STOP = auto()  # it fails again
    RETRY = auto()  # it may succeed
    WAIT = auto()  # it may succeed, but not before RetryInfo's delay


class Detail(Enum):
    """What an error's details say besides ErrorInfo, RequestInfo and RetryInfo."""

    FIELD_VIOLATIONS = auto()  # BadRequest: each fault of the request
    REFUSED_ID = auto()  # BadRequest: HealthOmics refuses the id or its export
    RUN = auto()  # ResourceInfo: the run
    RUN_STATE = auto()  # PreconditionFailure: the run's state
    CALL_RATE = auto()  # QuotaFailure: the account's GetRun calls a second
    SERVICE_QUOTA = auto()  # QuotaFailure: a service quota of the account
    CALLER_LIMIT = auto()  # QuotaFailure: the caller's own limit


@dataclass(frozen=True, slots=True)
class Row:
    """What a client receives for one reason."""

    code: int  # google.rpc.Code
    advice: Advice
    message: str
    detail: Detail | None = None
    # Whether it shows that a run exists, or what it is. A caller that may see only some
    # runs receives CALLER_NOT_AUTHORIZED instead.
    reveals_run: bool = False


@unique
class Reason(Enum):
    """The table: each `ErrorReason` of the contract, without its prefix."""

    INVALID_REQUEST = Row(
        code.INVALID_ARGUMENT,
        Advice.STOP,
        "The request breaks the contract; the details name each fault.",
        Detail.FIELD_VIOLATIONS,
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
        Detail.RUN,
        reveals_run=True,
    )
    RUN_CONFLICT = Row(
        code.FAILED_PRECONDITION,
        Advice.STOP,
        "The run's current state doesn't allow this.",
        Detail.RUN_STATE,
        reveals_run=True,
    )
    UPSTREAM_VALIDATION = Row(
        code.INVALID_ARGUMENT,
        Advice.STOP,
        "HealthOmics finds the request invalid.",
        Detail.REFUSED_ID,
        reveals_run=True,
    )
    UPSTREAM_ACCESS_DENIED = Row(
        code.PERMISSION_DENIED,
        Advice.STOP,
        "AWS refuses the role that the gateway uses for this call.",
        reveals_run=True,
    )
    UPSTREAM_QUOTA_EXCEEDED = Row(
        code.RESOURCE_EXHAUSTED,
        Advice.STOP,
        "A service quota of the AWS account is exceeded.",
        Detail.SERVICE_QUOTA,
    )
    UPSTREAM_THROTTLED = Row(
        code.RESOURCE_EXHAUSTED,
        Advice.WAIT,
        "The AWS account's rate of GetRun calls is used up.",
        Detail.CALL_RATE,
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
        reveals_run=True,
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
        reveals_run=True,
    )
    UPSTREAM_IDENTITY_MISMATCH = Row(
        code.INTERNAL,
        Advice.STOP,
        "HealthOmics' answer is about another run.",
        reveals_run=True,
    )
    UPSTREAM_RESPONSE_TOO_LARGE = Row(
        code.INTERNAL,
        Advice.STOP,
        "HealthOmics' answer is larger than the gateway reads.",
        reveals_run=True,
    )
    RUN_REPLACED = Row(
        code.NOT_FOUND,
        Advice.STOP,
        "The id names another run than the one that is watched.",
        Detail.RUN,
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
        Detail.CALLER_LIMIT,
    )
