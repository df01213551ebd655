"""Errors as `google.rpc.Status` (AIP-193)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from google.protobuf.message import Message
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

from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Detail, Reason

DOMAIN = "healthomics-gateway"
MAX_STATUS_BYTES = 4096  # message and details; beyond 8 KiB clients may lose them
MAX_TEXT = 256  # characters of one metadata value
MAX_DEBUG_TEXT = 1024  # characters of AWS's message, where it is let through
PACKING_BYTES = 80  # at most what one packed detail adds to its own size
RUN_ID = "runId"  # the key of ErrorInfo.metadata

_UNPRINTABLE = re.compile(r"[^\x20-\x7e]+")


def status_of(
    error: GatewayError,
    *,
    metadata: Mapping[str, str],
    request_id: str,
    debug: bool = False,
) -> Status:
    """Return an error as a status of at most 4 KiB.

    `metadata` is ErrorInfo's, `request_id` the call's own. With `debug` AWS's message
    is among the details. A caller that isn't authorized learns nothing of the run but
    the id that it has sent.
    """
    row = error.reason.value
    metadata = {key: _clean(value, MAX_TEXT) for key, value in metadata.items()}
    if error.reason is Reason.CALLER_NOT_AUTHORIZED:
        metadata = {key: metadata[key] for key in (RUN_ID,) if key in metadata}
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
        left = MAX_STATUS_BYTES - len(row.message) - status.ByteSize() - PACKING_BYTES
        _pack(status, DETAILS[row.detail](error, metadata.get(RUN_ID, ""), left))
    return status


def _pack(status: Status, *details: Message) -> None:
    for each in details:
        status.details.add().Pack(each)


def _clean(text: str, limit: int) -> str:
    """Keep printable ASCII: control characters and surrogates break a status."""
    return _UNPRINTABLE.sub(" ", text)[:limit]


def _field_violations(error: GatewayError, _run_id: str, max_bytes: int) -> BadRequest:
    """Name as many faults as fit."""
    bad = BadRequest()
    for violation in error.violations:
        bad.field_violations.append(violation)
        if bad.ByteSize() > max_bytes:
            bad.field_violations.pop()
            break
    return bad


def _refused_id(*_: object) -> BadRequest:
    text = "HealthOmics finds this id, or its export, invalid."
    return BadRequest(
        field_violations=[BadRequest.FieldViolation(field="id", description=text)]
    )


def _run(_error: GatewayError, run_id: str, _max_bytes: int) -> ResourceInfo:
    return ResourceInfo(resource_type="omics.run", resource_name=run_id)


def _run_state(
    _error: GatewayError, run_id: str, _max_bytes: int
) -> PreconditionFailure:
    violation = PreconditionFailure.Violation(
        type="RUN_STATE",
        subject=run_id,
        description="The run's current state doesn't allow this.",
    )
    return PreconditionFailure(violations=[violation])


def _quota(subject: str, description: str) -> Callable[..., QuotaFailure]:
    violation = QuotaFailure.Violation(subject=subject, description=description)
    return lambda *_: QuotaFailure(violations=[violation])


# Each is given the error, the run's id and how many bytes are left.
DETAILS: Mapping[Detail, Callable[[GatewayError, str, int], Message]] = {
    Detail.FIELD_VIOLATIONS: _field_violations,
    Detail.REFUSED_ID: _refused_id,
    Detail.RUN: _run,
    Detail.RUN_STATE: _run_state,
    Detail.CALL_RATE: _quota(
        "omics:GetRun", "The account's GetRun calls a second in this Region."
    ),
    Detail.SERVICE_QUOTA: _quota(
        "omics", "A service quota of the account in this Region."
    ),
    Detail.CALLER_LIMIT: _quota(
        "caller", "What the gateway's operator lets this caller ask for."
    ),
}
