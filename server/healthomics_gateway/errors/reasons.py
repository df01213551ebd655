"""The table of errors: the code, advice, message and details of each reason.

Each `Reason` is an `ErrorReason` of the contract without its prefix. The codes are
`google.rpc.Code`; `interceptors/status.py` maps them to the codes of gRPC.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto, unique

from google.rpc import code_pb2 as code


class Advice(Enum):
    """What a client should do after an error."""

    STOP = auto()  # a retry fails again
    RETRY = auto()  # a retry may succeed
    WAIT = auto()  # a retry may succeed, but not before RetryInfo's delay


class Detail(Enum):
    """The detail of an error besides ErrorInfo, RequestInfo and RetryInfo."""

    FIELD_VIOLATIONS = auto()  # BadRequest: each fault of the request
    REFUSED_ID = auto()  # BadRequest: HealthOmics rejects the id or its export
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
    # Whether the error shows that a run exists, or anything about it. A caller that may
    # see only some runs receives CALLER_NOT_AUTHORIZED instead.
    reveals_run: bool = False


@unique
class Reason(Enum):
    """The table: each `ErrorReason` of the contract, without its prefix."""

    INVALID_REQUEST = Row(
        code.INVALID_ARGUMENT,
        Advice.STOP,
        "The request breaks a rule of the contract; the details list the faults.",
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
        "There is no such method at this address.",
    )
    DEADLINE_TOO_SHORT = Row(
        code.DEADLINE_EXCEEDED,
        Advice.STOP,
        "The deadline was too short to ask HealthOmics; set a longer one.",
    )
    CALLER_DEADLINE = Row(
        code.DEADLINE_EXCEEDED,
        Advice.STOP,
        "The caller's deadline passed before HealthOmics answered.",
    )
    SERVER_DEADLINE = Row(
        code.DEADLINE_EXCEEDED,
        Advice.STOP,
        "The gateway's time limit passed before HealthOmics answered; "
        "set a deadline within that limit.",
    )
    RESPONSE_TOO_LARGE = Row(
        code.RESOURCE_EXHAUSTED,
        Advice.STOP,
        "The response exceeds 4 MiB; request fewer fields with read_mask.",
    )
    GATEWAY_OVERLOADED = Row(
        code.UNAVAILABLE,
        Advice.RETRY,
        "The gateway has more calls than it can serve in time.",
    )
    GATEWAY_DRAINING = Row(
        code.UNAVAILABLE,
        Advice.RETRY,
        "The gateway is shutting down; retry.",
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
        "AWS doesn't accept the gateway's credentials; the gateway's operator must fix"
        " them.",
    )
    GATEWAY_CLOCK_SKEW = Row(
        code.UNAVAILABLE,
        Advice.RETRY,
        "AWS reports that the gateway's clock is wrong.",
    )
    GATEWAY_SIGNATURE_REJECTED = Row(
        code.INTERNAL,
        Advice.STOP,
        "AWS rejects the gateway's signature; the gateway's operator must fix this.",
    )
    GATEWAY_ACCOUNT_NOT_ENABLED = Row(
        code.INTERNAL,
        Advice.STOP,
        "The gateway's AWS account isn't enabled for HealthOmics.",
    )
    GATEWAY_REQUEST_REJECTED = Row(
        code.INTERNAL,
        Advice.STOP,
        "AWS doesn't understand the gateway's request; tell the gateway's operator.",
    )
    RUN_NOT_FOUND = Row(
        code.NOT_FOUND,
        Advice.STOP,
        "There is no run with this id.",
        Detail.RUN,
        reveals_run=True,
    )
    RUN_CONFLICT = Row(
        code.FAILED_PRECONDITION,
        Advice.STOP,
        "HealthOmics can't return the run in its current state.",
        Detail.RUN_STATE,
        reveals_run=True,
    )
    UPSTREAM_VALIDATION = Row(
        code.INVALID_ARGUMENT,
        Advice.STOP,
        "HealthOmics rejects the request as invalid.",
        Detail.REFUSED_ID,
        reveals_run=True,
    )
    UPSTREAM_ACCESS_DENIED = Row(
        code.PERMISSION_DENIED,
        Advice.STOP,
        "AWS denies the call to the role that the gateway uses for it.",
        reveals_run=True,
    )
    UPSTREAM_QUOTA_EXCEEDED = Row(
        code.RESOURCE_EXHAUSTED,
        Advice.STOP,
        "The AWS account has exceeded a service quota; waiting doesn't help.",
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
        "HealthOmics reports an internal error.",
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
        "The name of the HealthOmics endpoint can't be resolved.",
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
        "HealthOmics answered with an error that the gateway doesn't know.",
        reveals_run=True,
    )
    UPSTREAM_UNEXPECTED_REDIRECT = Row(
        code.INTERNAL,
        Advice.STOP,
        "HealthOmics answered with a redirect, which the gateway doesn't follow.",
    )
    UPSTREAM_MALFORMED_RESPONSE = Row(
        code.INTERNAL,
        Advice.STOP,
        "The gateway can't read the answer of HealthOmics.",
        reveals_run=True,
    )
    UPSTREAM_IDENTITY_MISMATCH = Row(
        code.INTERNAL,
        Advice.STOP,
        "HealthOmics answered with another run than the requested one.",
        reveals_run=True,
    )
    UPSTREAM_RESPONSE_TOO_LARGE = Row(
        code.INTERNAL,
        Advice.STOP,
        "The answer of HealthOmics is larger than the gateway's limit.",
        reveals_run=True,
    )
    RUN_REPLACED = Row(
        code.NOT_FOUND,
        Advice.STOP,
        "The id now belongs to another run than the watched one.",
        Detail.RUN,
    )
    WATCH_RENEW = Row(
        code.UNAVAILABLE,
        Advice.RETRY,
        "The watch has reached its time limit; start another with the run's uuid.",
    )
    TOKEN_MISSING = Row(
        code.UNAUTHENTICATED,
        Advice.STOP,
        "The call needs a bearer token or a client certificate.",
    )
    TOKEN_INVALID = Row(
        code.UNAUTHENTICATED,
        Advice.STOP,
        "The caller's token or certificate isn't accepted; get another one.",
    )
    TOKEN_EXPIRED = Row(
        code.UNAUTHENTICATED,
        Advice.STOP,
        "The caller's token or certificate has expired; get a new one.",
    )
    AUTH_BACKEND_UNAVAILABLE = Row(
        code.UNAVAILABLE,
        Advice.RETRY,
        "The gateway can't fetch the keys that verify tokens at the moment.",
    )
    CALLER_NOT_AUTHORIZED = Row(
        code.PERMISSION_DENIED,
        Advice.STOP,
        "The caller isn't allowed to call this method or to see this run.",
    )
    CALLER_RATE_LIMITED = Row(
        code.RESOURCE_EXHAUSTED,
        Advice.WAIT,
        "The caller has reached its own limit on calls or watches.",
        Detail.CALLER_LIMIT,
    )
