"""What a worker reports about itself to the supervisor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from healthomics_gateway.app.statusz.bounds import MAX_ITEMS
from healthomics_gateway.app.statusz.shape import Snapshot
from healthomics_gateway.services.readiness import PartState
from healthomics_gateway.telemetry.metrics.families import Family, are_within_bounds
from healthomics_gateway.telemetry.recent import SLOTS

MEMORY = "process_resident_memory_bytes"


class InvalidReportError(ValueError):
    """A report that doesn't have the shape of one, or more than any worker has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The state of a worker."""

    metrics: Sequence[Family]
    parts: Sequence[PartState]  # of its readiness
    why_not: str  # why it isn't ready; empty if it is
    is_dead: bool  # whether no new call can reach it
    status: Snapshot

    @property
    def memory_bytes(self) -> int | None:
        """The memory of the process, or None if it doesn't measure it."""
        return next(
            (
                int(sample.value)
                for family in self.metrics
                if family.name == MEMORY
                for sample in family.samples
            ),
            None,
        )


_SHAPE = TypeAdapter(Report)


def read_report(data: object) -> Report:
    """Return a report from data as JSON has it; raises InvalidReportError."""
    try:
        report = _SHAPE.validate_python(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InvalidReportError(f"{place}: {first['msg']}") from None
    if not _is_within_bounds(report):
        raise InvalidReportError("it has too many items")
    return report


def _is_within_bounds(report: Report) -> bool:
    status = report.status
    lists: tuple[Sequence[object], ...] = (
        *(report.parts, status.addresses, status.rules, status.settings),
        *(status.certificates, status.quota, status.workers),
        *(status.errors.by_reason, status.errors.newest),
    )
    return (
        are_within_bounds(report.metrics)
        and all(len(each) <= MAX_ITEMS for each in lists)
        and all(len(each.slots) <= SLOTS for each in status.quota)
    )
