"""The runs of the fake account: how each is loaded, and when its state changes."""

from __future__ import annotations

from dataclasses import dataclass

FRESH_FIRST, REMEMBERED_FIRST, WATCHED_FIRST = 5_000_000, 6_000_000, 7_000_000
FRESH, REMEMBERED, WATCHED = "fresh", "remembered", "watched"
END = "COMPLETED"


@dataclass(frozen=True, slots=True)
class Arrival:
    """A GetRun that the account received; `at` is a time of the monotonic clock."""

    at: float
    run_id: str

    @property
    def kind(self) -> str:
        """The part of the load that asks for such a run."""
        return kind_of(self.run_id)


def kind_of(run_id: str) -> str:
    """Return the part of the load that asks for a run."""
    number = int(run_id)
    if number >= WATCHED_FIRST:
        return WATCHED
    return REMEMBERED if number >= REMEMBERED_FIRST else FRESH


def watched_ids(runs: int) -> list[str]:
    """Return the ids of the watched runs."""
    return [str(WATCHED_FIRST + at) for at in range(runs)]


@dataclass(frozen=True, slots=True)
class Lives:
    """The states of the watched runs, in seconds since the load began.

    Each is PENDING, then RUNNING, then COMPLETED. The ends are spread evenly over the
    time between `first_end` and `last_end`. All other runs are RUNNING for ever. None
    is in a state that the gateway polls more often.
    """

    runs: int
    first_end: float
    last_end: float

    def end_of(self, run_id: str) -> float:
        """Return when a watched run ends."""
        at = int(run_id) - WATCHED_FIRST
        step = (self.last_end - self.first_end) / max(self.runs - 1, 1)
        # Neighbours end far apart, so that the ends are spread over the replicas too.
        return self.first_end + step * (at * 37 % self.runs)

    def status(self, run_id: str, at: float) -> str:
        """Return the status of a run at a time."""
        if kind_of(run_id) != WATCHED:
            return "RUNNING"
        end = self.end_of(run_id)
        if at >= end:
            return END
        return "PENDING" if at < end / 2 else "RUNNING"
