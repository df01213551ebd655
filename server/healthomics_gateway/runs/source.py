"""What is asked and answered: the one shape that every source of runs has."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from healthomics_gateway.errors.exceptions import AwsAnswer

if TYPE_CHECKING:
    from healthomics.v1.run_pb2 import Run, RunExport

MIN_ATTEMPT_SECONDS = 0.01  # no request to HealthOmics takes less
# A call whose turn won't come in time is refused so long before its deadline.
REFUSAL_MARGIN_SECONDS = 0.02
FIRST_OWN_FIELD = 1000  # of Run: from here on the gateway's own, no member of AWS's


class Partition(NamedTuple):
    """As whom HealthOmics is asked: an answer never leaves its partition."""

    role: str = ""  # ARN of a role that is assumed; empty: the gateway's own identity
    identity: str = ""  # of the caller whom it is assumed for; empty without a role


OWN = Partition()


@dataclass(frozen=True, slots=True)
class RunQuery:
    """What is asked, and as whom: two calls with equal queries ask the same."""

    id: str  # 1 to 18 ASCII digits
    export: tuple[RunExport.ValueType, ...] = ()  # sorted, no duplicates
    partition: Partition = OWN

    @property
    def bare(self) -> RunQuery:
        """The same run, asked for as the same identity, without further wishes."""
        if not self.export:
            return self
        return RunQuery(self.id, partition=self.partition)


class Caller(NamedTuple):
    """Who asks: callers have equal shares, and so have the connections of each."""

    name: str = ""
    connection: str = ""


NOBODY = Caller()


@dataclass(frozen=True, slots=True)
class UpstreamInfo:
    """What is known of a call's attempts at HealthOmics."""

    region: str = ""
    attempts: int = 0
    answer: AwsAnswer | None = None  # of the last attempt, once it has succeeded

    def next_attempt(self, region: str) -> UpstreamInfo:
        """Return what is known once another attempt has begun."""
        return UpstreamInfo(region, self.attempts + 1)


NOT_ASKED = UpstreamInfo()


class Call(Protocol):
    """On whose behalf a run is asked for, for how long, and what is learnt on the way.

    A source reads it when it needs it: a call that many share changes as they come and
    go.
    """

    upstream: UpstreamInfo

    @property
    def deadline(self) -> float:
        """Until when it may take, in seconds of the event loop's clock."""
        ...

    @property
    def callers(self) -> Collection[Caller]:
        """Who waits for it, those who share it too; nobody twice."""
        ...

    @property
    def is_poll(self) -> bool:
        """Whether a watch asks, and nobody else waits."""
        ...

    def sent(self) -> None:
        """Learn that its first request is about to be sent."""
        ...


@dataclass(slots=True, eq=False)
class OneCall:
    """One caller's call."""

    deadline: float
    caller: Caller = NOBODY
    is_poll: bool = False
    upstream: UpstreamInfo = NOT_ASKED

    @property
    def callers(self) -> Collection[Caller]:
        """The one."""
        return (self.caller,)

    def sent(self) -> None:
        """Do nothing: nobody could join."""


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
