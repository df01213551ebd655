"""Counts the polls of the watched runs, and those that were due."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from load.replicating.faults import Span
from load.replicating.runs import WATCHED, Arrival, Lives

CLOSE_SHARE = 0.5  # of a period: two polls that are closer are one too many


@dataclass
class Polls:
    """The polls of all watched runs, and how many were due."""

    number: int = 0  # in the times without a fault, as the next two
    due: float = 0.0
    close: list[float] = field(default_factory=list)  # when one was too soon
    of_all: int = 0
    due_of_all: float = 0.0


def polls_of(
    arrivals: Iterable[Arrival],
    lives: Lives,
    spans: Sequence[Span],
    *,
    period_seconds: float,
) -> Polls:
    """Count the polls of runs until their ends; `spans` are without a fault."""
    found, least = Polls(), period_seconds * CLOSE_SHARE
    for run_id, times in _times_of_polls(arrivals).items():
        end = lives.end_of(run_id)
        found.of_all += len(times)
        found.due_of_all += (end - times[0]) / period_seconds + 1
        for first, last in ((a, min(b, end)) for a, b in spans if a < end):
            inside = [at for at in times if first <= at < last]
            found.number += len(inside)
            found.due += (last - first) / period_seconds
            found.close += [b for a, b in pairwise(inside) if b - a < least]
    return found


def _times_of_polls(arrivals: Iterable[Arrival]) -> Mapping[str, Sequence[float]]:
    """Return when each watched run was polled."""
    of_run: dict[str, list[float]] = defaultdict(list)
    for each in arrivals:
        if each.kind == WATCHED:
            of_run[each.run_id].append(each.at)
    return of_run
