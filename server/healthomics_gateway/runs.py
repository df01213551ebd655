"""What is asked and answered: the one shape that every source of runs has."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from healthomics.v1.run_pb2 import Run, RunExport

FIRST_OWN_FIELD = 1000  # of Run: from here on the gateway's own, no member of AWS's


@dataclass(frozen=True, slots=True)
class RunQuery:
    """What is asked: two calls with equal queries ask the same."""

    id: str  # 1 to 18 ASCII digits
    export: tuple[RunExport.ValueType, ...] = ()  # sorted, no duplicates


@dataclass(slots=True)
class Call:
    """How long a call may take, and what its sources can tell of it."""

    deadline: float  # seconds of the event loop's clock
    facts: dict[str, str] = field(default_factory=dict)  # as `ErrorInfo.metadata`


@dataclass(frozen=True, slots=True)
class Answer:
    """A run as a source has it. It is shared: nobody changes it."""

    run: Run
    request_id: str  # AWS's id of the upstream call; empty where AWS sent none


class RunSource(Protocol):
    """Anything that can be asked for a run: each room asks the next of its kind."""

    async def get_run(self, query: RunQuery, *, call: Call) -> Answer:
        """Answer the run, or raise `errors.GatewayError`."""
        ...
