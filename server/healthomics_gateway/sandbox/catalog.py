"""The answer of the sandbox for each id: its runs and its errors."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from healthomics_gateway.sandbox import lifecycle, showcase
from healthomics_gateway.sandbox.account import ACCOUNT_ID, REGION
from healthomics_gateway.sandbox.errors import AwsError
from healthomics_gateway.sandbox.runs import History, Members, run

_SETTLED = {
    "1000001": History(status="PENDING", created="2025-11-18T09:30:00Z"),
    "1000002": History(status="STARTING", created="2025-11-18T09:12:44.518Z"),
    "1000003": History(
        status="RUNNING",
        created="2025-11-18T07:45:10.002913Z",
        started="2025-11-18T07:52:31.440Z",
    ),
    "1000004": History(
        status="STOPPING",
        created="2025-11-18T03:20:09Z",
        started="2025-11-18T03:26:55.871Z",
    ),
    "1000005": History(
        status="COMPLETED",
        created="2025-11-17T18:01:02.345678Z",
        started="2025-11-17T18:07:40.100Z",
        stopped="2025-11-17T22:30:05Z",
    ),
    "1000006": History(
        status="DELETED",
        created="2025-09-01T10:00:00Z",
        started="2025-09-01T10:06:12.730Z",
        stopped="2025-09-01T13:41:27.903Z",
    ),
    "1000007": History(
        status="CANCELLED",
        created="2025-11-16T12:15:30.250Z",
        started="2025-11-16T12:21:08.612345Z",
        stopped="2025-11-16T12:58:44.019Z",
    ),
    "1000008": History(
        status="FAILED",
        created="2025-11-15T20:40:00.771Z",
        started="2025-11-15T20:46:18.005Z",
        stopped="2025-11-15T23:59:59.999999Z",
    ),
}

_DENIAL = (  # a message as from IAM, with ARNs
    f"User: arn:aws:sts::{ACCOUNT_ID}:assumed-role/gateway/session is not authorized "
    f"to perform: omics:GetRun on resource: arn:aws:omics:{REGION}:{ACCOUNT_ID}:run/"
    "9000403 because no identity-based policy allows the omics:GetRun action"
)
_ERRORS = {
    "9000400": ("ValidationException", "The run can't be read: its id is reserved."),
    "9000402": (
        "ServiceQuotaExceededException",
        "The account has reached its quota of active runs.",
    ),
    "9000403": ("AccessDeniedException", _DENIAL),
    "9000404": ("ResourceNotFoundException", "Run 9000404 was not found."),
    "9000408": ("RequestTimeoutException", "The request timed out."),
    "9000409": ("ConflictException", "Run 9000409 is being deleted."),
    "9000429": ("ThrottlingException", "Rate exceeded"),
    "9000500": ("InternalServerException", "An unexpected error occurred."),
}

_COMPLETE, _UNMODELED = "3000001", "3000002"
_CHANGING = ("2000001", "2999999")  # first and last id of the range
_RUNNING = ("5000001", "5999999")  # first and last id of the range
_PACE = f"in the {lifecycle.LIFE_SECONDS:.0f} s after its first request"

_ANSWERS = [
    *((run_id, of.status) for run_id, of in _SETTLED.items()),
    ("-".join(_CHANGING), f"each goes from PENDING to COMPLETED {_PACE}"),
    (_COMPLETE, "all members set"),
    (_UNMODELED, "members and enum values that no model has"),
    ("-".join(_RUNNING), "each RUNNING, for load tests"),
    *((run_id, code) for run_id, (code, _) in _ERRORS.items()),
    ("any other", "ResourceNotFoundException"),
]
RUNS_HELP = "\n".join(f"{ids:<15}  {answer}" for ids, answer in _ANSWERS)
"""The ids and their answers, one on each line, for `--help`."""


@dataclass(frozen=True, slots=True)
class _Creation:
    """The time of the first request for a changing run, by both clocks."""

    created: datetime
    monotonic_seconds: float


class Catalog:
    """The runs of one sandbox, with the time of the first request for changing runs.

    `now` returns the time of day, `monotonic` seconds.
    """

    def __init__(
        self, *, now: Callable[[], datetime], monotonic: Callable[[], float]
    ) -> None:
        self._now = now
        self._monotonic = monotonic
        self._creations: dict[str, _Creation] = {}

    def run(self, run_id: str) -> Members:
        """Return the members of a run without its definition, or raise its AwsError."""
        if run_id in _SETTLED:
            return run(run_id, _SETTLED[run_id])
        if run_id in _ERRORS:
            raise AwsError(*_ERRORS[run_id])
        if run_id == _COMPLETE:
            return showcase.complete_run(run_id)
        if run_id == _UNMODELED:
            return showcase.unmodeled_run(run_id)
        if _within(_RUNNING, run_id):
            return run(run_id, _SETTLED["1000003"])
        if _within(_CHANGING, run_id):
            return run(run_id, self._history(run_id))
        raise AwsError("ResourceNotFoundException", f"Run {run_id} was not found.")

    def _history(self, run_id: str) -> History:
        monotonic_seconds = self._monotonic()
        creation = self._creations.setdefault(
            run_id, _Creation(self._now(), monotonic_seconds)
        )
        return lifecycle.history(
            creation.created, monotonic_seconds - creation.monotonic_seconds
        )


def _within(ids: tuple[str, str], run_id: str) -> bool:
    first, last = ids
    return len(run_id) == len(first) and first <= run_id <= last
