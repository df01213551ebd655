"""Validates requests, and reports all violations of a request at once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.rpc.error_details_pb2 import BadRequest

from healthomics.v1.run_pb2 import RunExport
from healthomics.v1.run_service_pb2 import GetRunRequest, WatchRunRequest
from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.runs.field_mask import unknown_paths

MAX_EXPORTS = 32
MAX_PATHS = 128  # of a mask: more than `Run` has; a request could have 20,000
MAX_UUID = 64  # characters
MAX_FAULTS = 128  # more than fit in an error; a request could have 60,000
MAX_DURATION_SECONDS = 315_576_000_000  # of google.protobuf.Duration
MAX_NANOS = 999_999_999
MIN_HEARTBEAT_SECONDS = 1
MAX_HEARTBEAT_SECONDS = 3600

_RUN_ID = re.compile(r"[0-9]{1,18}")
_EXPORTS = frozenset(RunExport.values()) - {RunExport.RUN_EXPORT_UNSPECIFIED}


def is_run_id(text: str) -> bool:
    """Return whether `text` is 1 to 18 digits, as a run's id is."""
    return _RUN_ID.fullmatch(text) is not None


def check_get(request: GetRunRequest) -> None:
    """Raise INVALID_REQUEST with all violations, if there are any."""
    _raise_if_any(_get_faults(request))


def check_watch(request: WatchRunRequest) -> None:
    """Raise INVALID_REQUEST with all violations, if there are any."""
    _raise_if_any(_watch_faults(request))


def seconds_of(duration: Duration) -> float:
    """Return a valid duration in seconds."""
    return duration.seconds + duration.nanos / 1e9


def _raise_if_any(faults: Iterator[tuple[str, str]]) -> None:
    violations = tuple(
        BadRequest.FieldViolation(field=field, description=description)
        for field, description in islice(faults, MAX_FAULTS)
    )
    if violations:
        raise GatewayError(Reason.INVALID_REQUEST, violations=violations)


def _get_faults(request: GetRunRequest) -> Iterator[tuple[str, str]]:
    yield from _id_faults(request.id)
    if len(request.export) > MAX_EXPORTS:
        yield "export", f"At most {MAX_EXPORTS} values are allowed."
    for at, export in enumerate(request.export):
        if export not in _EXPORTS:
            text = "Must be a value of RunExport, and not RUN_EXPORT_UNSPECIFIED."
            yield f"export[{at}]", text
    if request.HasField("max_staleness"):
        yield from _duration_faults("max_staleness", request.max_staleness)
    if request.HasField("read_mask"):
        yield from _mask_faults(request.read_mask)


def _watch_faults(request: WatchRunRequest) -> Iterator[tuple[str, str]]:
    yield from _id_faults(request.id)
    if len(request.uuid) > MAX_UUID:
        yield "uuid", f"At most {MAX_UUID} characters are allowed."
    if request.HasField("min_interval"):
        yield from _duration_faults("min_interval", request.min_interval)
    if request.HasField("read_mask"):
        yield from _mask_faults(request.read_mask)
    if request.HasField("heartbeat_interval"):
        yield from _heartbeat_faults(request.heartbeat_interval)


def _heartbeat_faults(duration: Duration) -> Iterator[tuple[str, str]]:
    faults = tuple(_duration_faults("heartbeat_interval", duration))
    seconds = seconds_of(duration)
    if faults:
        yield from faults
    elif not MIN_HEARTBEAT_SECONDS <= seconds <= MAX_HEARTBEAT_SECONDS:
        yield "heartbeat_interval", "Must be between 1 second and 1 hour."


def _id_faults(run_id: str) -> Iterator[tuple[str, str]]:
    if not _RUN_ID.fullmatch(run_id):
        yield "id", "Must be 1 to 18 ASCII digits."


def _mask_faults(mask: FieldMask) -> Iterator[tuple[str, str]]:
    if len(mask.paths) > MAX_PATHS:
        yield "read_mask", f"At most {MAX_PATHS} paths are allowed."
        return
    for at in unknown_paths(mask.paths):
        text = "Must be the path of a field of Run or of its structures."
        yield f"read_mask.paths[{at}]", text


def _duration_faults(field: str, duration: Duration) -> Iterator[tuple[str, str]]:
    if (
        abs(duration.seconds) > MAX_DURATION_SECONDS
        or abs(duration.nanos) > MAX_NANOS
        or duration.seconds * duration.nanos < 0
    ):
        yield field, "Must be a valid Duration."
    elif duration.seconds < 0 or duration.nanos < 0:
        yield field, "Must not be negative."
