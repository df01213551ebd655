"""The interface of every source of runs: queries, calls and answers."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from healthomics_gateway.errors.exceptions import AwsAnswer
from healthomics_gateway.telemetry.spans import Origin, Span

if TYPE_CHECKING:
    from healthomics.v1.run_pb2 import Run, RunExport

MIN_ATTEMPT_SECONDS = 0.01  # no request to HealthOmics takes less
# A call whose turn won't come in time is refused so long before its deadline.
REFUSAL_MARGIN_SECONDS = 0.02
FIRST_OWN_FIELD = 1000  # of Run: fields from this number on are the gateway's own


class Partition(NamedTuple):
    """The AWS identity that a run is read with; answers aren't shared across them."""

    role: str = ""  # ARN of the role that is assumed; empty: the gateway's own identity
    identity: str = ""  # of the caller that it is assumed for; empty without a role


OWN = Partition()


@dataclass(frozen=True, slots=True)
class RunQuery:
    """A request for a run; calls with equal queries share a fetch."""

    id: str  # 1 to 18 ASCII digits
    export: tuple[RunExport.ValueType, ...] = ()  # sorted, no duplicates
    partition: Partition = OWN

    @property
    def without_export(self) -> RunQuery:
        """The query for the same run in the same partition, without exports."""
        if not self.export:
            return self
        return RunQuery(self.id, partition=self.partition)


class Caller(NamedTuple):
    """The caller of a call, and its connection.

    Callers have equal shares of the turns, and so have the connections of each.
    """

    name: str = ""
    connection: str = ""


NO_CALLER = Caller()


@dataclass(frozen=True, slots=True)
class UpstreamInfo:
    """The attempts of a call so far."""

    region: str = ""
    attempts: int = 0
    answer: AwsAnswer | None = None  # to the last attempt, if it has succeeded

    def next_attempt(self, region: str) -> UpstreamInfo:
        """Return the info for when another attempt has begun."""
        return UpstreamInfo(region, self.attempts + 1)


NO_ATTEMPT = UpstreamInfo()


class Call(Protocol):
    """The callers and the deadline of a call, and what is known of its attempts.

    A source reads these each time that it needs them: those of a shared fetch change as
    callers join and leave.
    """

    upstream: UpstreamInfo
    span: Span | None  # None if nothing is recorded

    @property
    def deadline(self) -> float:
        """The time by which it has to end, in seconds of the event loop's clock."""
        ...

    @property
    def callers(self) -> Collection[Caller]:
        """The callers that wait for it, each once."""
        ...

    @property
    def is_poll(self) -> bool:
        """True if only watches wait for it."""
        ...

    def sent(self) -> None:
        """Note that its first request is about to be sent."""
        ...


@dataclass(slots=True, eq=False)
class OneCall:
    """One caller's call."""

    deadline: float
    caller: Caller = NO_CALLER
    is_poll: bool = False
    upstream: UpstreamInfo = NO_ATTEMPT
    span: Span | None = None

    @property
    def callers(self) -> Collection[Caller]:
        """The only one."""
        return (self.caller,)

    def sent(self) -> None:
        """Do nothing: no other caller could join."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A run as a source has it; it is shared and must not be changed."""

    run: Run
    request_id: str  # AWS's id of the upstream call; empty if AWS sent none
    origin: Origin | None = None  # the span of the fetch that read it, if recorded


class RunSource(Protocol):
    """Anything that has `get_run`; each source wraps the next."""

    async def get_run(self, query: RunQuery, *, call: Call) -> Answer:
        """Return the run, or raise GatewayError."""
        ...
