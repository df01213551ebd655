"""A run as a person reads it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from rich.text import Text

from healthomics.v1.run_pb2 import Run, RunStatus, WorkflowType
from healthomics_gateway.durations import elapsed_text

LABEL_COLUMNS = 12
STYLES = {
    RunStatus.RUN_STATUS_COMPLETED: "bold green",
    RunStatus.RUN_STATUS_FAILED: "bold red",
    RunStatus.RUN_STATUS_CANCELLED: "bold yellow",
    RunStatus.RUN_STATUS_DELETED: "bold yellow",
}


def run_text(run: Run, *, now: datetime) -> Text:
    """Tell status, times as durations, and where logs and outputs are."""
    status = _status(run)
    text = Text.assemble(("Run ", "bold"), (_plain(run.id), "bold"), "  ").append(
        status, style=STYLES.get(run.status, "bold cyan")
    )
    for label, value in _lines(run, now):
        text.append(f"\n  {label:<{LABEL_COLUMNS}}", style="dim").append(_plain(value))
    return text


def _status(run: Run) -> str:
    if run.status:
        return RunStatus.Name(run.status).removeprefix("RUN_STATUS_")
    return _plain(run.unmodeled_json.get("status", "no status").strip('"'))


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
        yield "read", f"{elapsed_text(now - _time(run.observe_time))} ago"


def _if(label: str, value: str) -> Iterator[tuple[str, str]]:
    if value:
        yield label, value


def _times(run: Run, now: datetime) -> Iterator[tuple[str, str]]:
    if run.HasField("creation_time"):
        created = _time(run.creation_time)
        ago = elapsed_text(now - created)
        yield "created", f"{ago} ago ({created:%Y-%m-%d %H:%M:%S} UTC)"
        start = _time(run.start_time) if run.HasField("start_time") else now
        if not run.HasField("stop_time") or run.HasField("start_time"):
            yield "waited", elapsed_text(start - created)
    if run.HasField("start_time"):
        stop = _time(run.stop_time) if run.HasField("stop_time") else now
        so_far = "" if run.HasField("stop_time") else " so far"
        yield "ran", elapsed_text(stop - _time(run.start_time)) + so_far
    if run.HasField("stop_time"):
        yield "stopped", f"{elapsed_text(now - _time(run.stop_time))} ago"


def _workflow(run: Run) -> str:
    kind = WorkflowType.Name(run.workflow_type).removeprefix("WORKFLOW_TYPE_")
    parts = [run.workflow_id, run.workflow_version_name]
    return " ".join([*filter(None, parts), *([kind] if run.workflow_type else [])])


def _storage(run: Run) -> str:
    return f"{run.storage_capacity} GiB" if run.HasField("storage_capacity") else ""


def _time(timestamp: Timestamp) -> datetime:
    return timestamp.ToDatetime(tzinfo=UTC)


def _plain(text: str) -> str:
    """Leave out what a terminal would obey."""
    return "".join(each if each.isprintable() else " " for each in text)
