"""The lease of a watched run: which of the replicas that watch it polls it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from healthomics.v1.run_pb2 import Run
    from healthomics_gateway.runs.source import Answer, RunQuery


class Follower(Protocol):
    """The interface of a poller to its lease."""

    query: RunQuery
    answered_at: float  # when its newest answer was read, in seconds of its clock

    @property
    def run(self) -> Run | None:
        """The run as it was read last."""
        ...

    def learn(self, answer: Answer, *, age_seconds: float) -> None:
        """Use an answer that another replica has read; it isn't older than the last."""
        ...

    def hurry(self, seconds: float) -> None:
        """Claim the lease `seconds` after a poll is due: nobody else polls any more."""
        ...


class Lease(Protocol):
    """The lease of one watched run, as one poller sees it."""

    @property
    def grace_seconds(self) -> float:
        """How long after a poll is due the poller waits for another replica's."""
        ...

    async def claim(self, *, period_seconds: float) -> bool:
        """Return whether the poller may poll now; else another replica does.

        A shorter period than the other replica's takes the lease over. Never raises.
        """
        ...

    def note_poll(self, *, is_own_failure: bool) -> None:
        """Note how a poll has ended.

        After failures that may be this replica's own, another one may have the lease.
        """
        ...

    def end(self) -> None:
        """Release the lease, if it is held; the poller ends."""
        ...


class Leases(Protocol):
    """The leases of all watched runs."""

    def lease(self, follower: Follower) -> Lease:
        """Return the lease of the run that `follower` polls."""
        ...


class Alone:
    """The leases of a gateway that shares no polls: each poller may always poll."""

    grace_seconds = 0.0

    def lease(self, _follower: Follower) -> Self:
        """Return the lease of any run."""
        return self

    async def claim(self, *, period_seconds: float) -> bool:  # noqa: ARG002  # the interface's
        """Return True."""
        return True

    def note_poll(self, *, is_own_failure: bool) -> None:
        """Do nothing."""

    def end(self) -> None:
        """Do nothing."""
