"""Formats a run as text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.timestamp_pb2 import Timestamp
from rich.text import Text

from healthomics.v1.run_pb2 import Run, RunStatus, WorkflowType
from healthomics_gateway.cli.usage import plain
from healthomics_gateway.durations import elapsed_text

LABEL_COLUMNS = 12
STYLES = {
    RunStatus.RUN_STATUS_COMPLETED: "bold green",
    RunStatus.RUN_STATUS_FAILED: "bold red",
    RunStatus.RUN_STATUS_CANCELLED: "bold yellow",
    RunStatus.RUN_STATUS_DELETED: "bold yellow",
}


def run_json(run: Run) -> str:
    """Return the run as one JSON object on one line.

    This is protobuf's JSON, except that whole numbers in `Struct` values are written
    as integers, because many programs accept no other form.
    """
    return json.dumps(_with_integers(json_format.MessageToDict(run)))


def _with_integers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_integers(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_with_integers(each) for each in value]
    if isinstance(value, float) and value.is_integer():
        # The shortest decimal is the number that was sent: 1e23 isn't int(1e23).
        return int(Decimal(repr(value)))
    return value


def run_text(run: Run, *, now: datetime) -> Text:
    """Return the status, the times as durations, and where logs and outputs are."""
    text = Text.assemble(("Run ", "bold"), (plain(run.id), "bold"), "  ")
    text.append(status_text(run))
    for label, value in _lines(run, now):
        text.append(f"\n  {plain(label):<{LABEL_COLUMNS - 1}} ", style="dim")
        text.append(plain(value))
    return text


def status_text(run: Run) -> Text:
    """Return AWS's name of the status, coloured."""
    if run.status:
        name = _enum_name(RunStatus.DESCRIPTOR, run.status, "RUN_STATUS_")
    else:
        name = plain(run.unmodeled_json.get("status", "no status").strip('"'))
    return Text(name, style=STYLES.get(run.status, "bold cyan"))


def _lines(run: Run, now: datetime) -> Iterator[tuple[str, str]]:
    yield from _if("name", run.name)
    yield from _if("why", run.failure_reason)
    yield from _if("message", run.status_message)
    yield from _times(run, now)
    yield from _if("workflow", _workflow(run))
    yield from _if("storage", _storage(run))
    yield from _if("outputs", run.run_output_uri or run.output_uri)
    yield from _if("run log", run.log_location.run_log_stream)
    yield from _if("engine log", run.log_location.engine_log_stream)
    yield from _if("tags", ", ".join(f"{k}={v}" for k, v in sorted(run.tags.items())))
    yield from _if("uuid", run.uuid)
    yield from _if("definition", run.definition)
    yield from sorted(run.unmodeled_json.items())
    if run.HasField("observe_time"):
        yield "read", f"{elapsed_text(now - time_of(run.observe_time))} ago"


def _if(label: str, value: str) -> Iterator[tuple[str, str]]:
    if value:
        yield label, value


def _times(run: Run, now: datetime) -> Iterator[tuple[str, str]]:
    untyped = run.unmodeled_json  # contains the times that AWS sent in an unknown form
    if run.HasField("creation_time"):
        created = time_of(run.creation_time)
        ago = elapsed_text(now - created)
        yield "created", f"{ago} ago ({created:%Y-%m-%d %H:%M:%S} UTC)"
        if run.HasField("start_time"):
            yield "waited", elapsed_text(time_of(run.start_time) - created)
        elif not (
            run.HasField("stop_time") or {"startTime", "stopTime"} & set(untyped)
        ):
            yield "waited", elapsed_text(now - created) + " so far"
    if run.HasField("start_time") and "stopTime" not in untyped:
        stop = time_of(run.stop_time) if run.HasField("stop_time") else now
        so_far = "" if run.HasField("stop_time") else " so far"
        yield "ran", elapsed_text(stop - time_of(run.start_time)) + so_far
    if run.HasField("stop_time"):
        yield "stopped", f"{elapsed_text(now - time_of(run.stop_time))} ago"


def _workflow(run: Run) -> str:
    kind = _enum_name(WorkflowType.DESCRIPTOR, run.workflow_type, "WORKFLOW_TYPE_")
    parts = [run.workflow_id, run.workflow_version_name]
    return " ".join([*filter(None, parts), *([kind] if run.workflow_type else [])])


def _enum_name(enum: EnumDescriptor, number: int, prefix: str) -> str:
    """Return AWS's name of an enum value, or the number of one that is unknown here."""
    known = enum.values_by_number.get(number)
    return known.name.removeprefix(prefix) if known else str(number)


def _storage(run: Run) -> str:
    return f"{run.storage_capacity} GiB" if run.HasField("storage_capacity") else ""


def time_of(timestamp: Timestamp) -> datetime:
    """Return a timestamp as a datetime in UTC."""
    return timestamp.ToDatetime(tzinfo=UTC)
