"""Turns requests into queries and selections, within the limits."""

from __future__ import annotations

from healthomics.v1.run_service_pb2 import GetRunRequest, WatchRunRequest
from healthomics_gateway.context import CallContext
from healthomics_gateway.runs.field_mask import ALL, Selection
from healthomics_gateway.runs.source import RunQuery
from healthomics_gateway.services.limits import Limits
from healthomics_gateway.services.validation import (
    check_get,
    check_watch,
    is_run_id,
    seconds_of,
)


class RequestReader:
    """Reads requests; a request that breaks the contract raises INVALID_REQUEST."""

    def __init__(self, limits: Limits) -> None:
        """Read requests within `limits`."""
        self._limits = limits
        self._withheld = limits.withheld
        self._whole: dict[frozenset[str], Selection] = {}  # by what a rule withholds

    def withhold(self, members: frozenset[str]) -> None:
        """Withhold these members from every caller from now on."""
        self._withheld = members
        self._whole.clear()

    def get(self, request: GetRunRequest, call: CallContext) -> RunQuery:
        """Return the query of a GetRun request."""
        _set_run_id(request, call)
        check_get(request)
        export = tuple(sorted(set(request.export))) if request.export else ()
        return RunQuery(request.id, export, call.access.partition)

    def watch(self, request: WatchRunRequest, call: CallContext) -> RunQuery:
        """Return the query of a WatchRun request."""
        _set_run_id(request, call)
        check_watch(request)
        return RunQuery(request.id, partition=call.access.partition)

    def max_age_seconds(self, request: GetRunRequest) -> float:
        """Return the maximum age of a cached answer, in seconds; 0 for a fresh one."""
        if not request.HasField("max_staleness"):
            return self._limits.max_staleness_seconds
        seconds = seconds_of(request.max_staleness)
        return min(seconds, self._limits.max_staleness_limit_seconds)

    def period_seconds(self, request: WatchRunRequest) -> float | None:
        """Return the time between polls, or `None` for the usual one."""
        seconds = seconds_of(request.min_interval)
        return max(seconds, self._limits.min_interval_seconds) if seconds else None

    def selection(
        self, request: GetRunRequest | WatchRunRequest, call: CallContext
    ) -> Selection:
        """Return what the caller receives now; what is withheld may change."""
        withheld = call.access.rule.withhold
        if not request.HasField("read_mask"):
            whole = self._whole.get(withheld)
            if whole is None:
                whole = Selection(withheld=self._withheld | withheld)
                self._whole[withheld] = whole
            return whole
        paths = frozenset(request.read_mask.paths)
        asked = None if ALL in paths else paths or None
        return Selection(asked, self._withheld | withheld)


def heartbeat_seconds(request: WatchRunRequest) -> float | None:
    """Return the time without a response after which a heartbeat is sent, if any."""
    if not request.HasField("heartbeat_interval"):
        return None
    return seconds_of(request.heartbeat_interval)


def _set_run_id(request: GetRunRequest | WatchRunRequest, call: CallContext) -> None:
    """Set the call's run id if it is valid, even if the rest of the request isn't."""
    if is_run_id(request.id):
        call.run_id = request.id
