"""Converts errors to `google.rpc.Status` (AIP-193)."""

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
from healthomics_gateway.errors.reasons import Detail

DOMAIN = "healthomics-gateway"
MAX_STATUS_BYTES = 4096  # message and details; clients may lose more than 8 KiB
MAX_TEXT = 256  # characters of one metadata value
MAX_DEBUG_TEXT = 1024  # characters of AWS's message, if it is returned
PACKING_BYTES = 80  # at most; added to the size of a detail when it is packed
RUN_ID = "runId"  # the key of ErrorInfo.metadata

_UNPRINTABLE = re.compile(r"[^\x20-\x7e]+")


def status_of(
    error: GatewayError,
    *,
    metadata: Mapping[str, str],
    request_id: str,
    debug: bool = False,
) -> Status:
    """Return the status of an error, at most 4 KiB.

    `metadata` is that of ErrorInfo. With `debug` the details include AWS's message.
    """
    row = error.reason.value
    metadata = {key: _clean(value, MAX_TEXT) for key, value in metadata.items()}
    status = Status(code=row.code, message=row.message)
    _pack(
        status,
        ErrorInfo(reason=error.reason.name, domain=DOMAIN, metadata=metadata),
        RequestInfo(request_id=request_id),
    )
    if error.retry_delay_ms is not None:
        info = RetryInfo()
        info.retry_delay.FromMilliseconds(error.retry_delay_ms)
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
    """Replace all but printable ASCII: some characters make a status invalid."""
    return _UNPRINTABLE.sub(" ", text)[:limit]


def _field_violations(error: GatewayError, _run_id: str, max_bytes: int) -> BadRequest:
    """Return as many faults as fit in `max_bytes`."""
    bad = BadRequest()
    for violation in error.violations:
        bad.field_violations.append(violation)
        if bad.ByteSize() > max_bytes:
            bad.field_violations.pop()
            break
    return bad


def _refused_id(*_: object) -> BadRequest:
    text = "HealthOmics rejects this id, or its export, as invalid."
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
        description="HealthOmics can't return the run in its current state.",
    )
    return PreconditionFailure(violations=[violation])


def _quota(subject: str, description: str) -> Callable[..., QuotaFailure]:
    violation = QuotaFailure.Violation(subject=subject, description=description)
    return lambda *_: QuotaFailure(violations=[violation])


# The arguments are the error, the run's id and the number of bytes left.
DETAILS: Mapping[Detail, Callable[[GatewayError, str, int], Message]] = {
    Detail.FIELD_VIOLATIONS: _field_violations,
    Detail.REFUSED_ID: _refused_id,
    Detail.RUN: _run,
    Detail.RUN_STATE: _run_state,
    Detail.CALL_RATE: _quota(
        "omics:GetRun", "The account's rate of GetRun calls in this Region."
    ),
    Detail.SERVICE_QUOTA: _quota(
        "omics", "A service quota of the account in this Region."
    ),
    Detail.CALLER_LIMIT: _quota(
        "caller", "The limits that the gateway's operator has set for this caller."
    ),
}
