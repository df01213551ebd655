"""Merges the readiness of several workers into that of one gateway."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from healthomics_gateway.app.statusz.texts import worker_names
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.services.readiness import LISTENERS, PartState

WORKERS = "workers"
NONE_SERVES = "no worker serves"
DEAD_SECONDS = 90.0  # without a report: longer than a start and the pause before it


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerReadiness:
    """The readiness of a worker, as it has reported."""

    why_not: str  # empty if it is ready
    is_dead: bool  # whether no new call can reach it
    parts: Sequence[PartState]


class MergedReadiness:
    """The readiness of a gateway with several workers."""

    def __init__(
        self,
        known: Callable[[], Mapping[int, WorkerReadiness]],
        *,
        faults: Callable[[], Sequence[str]],
        silent_seconds: Callable[[], float],
    ) -> None:
        """Merge the states that `known` returns, by the workers' numbers.

        They are those of the workers that have reported lately. `faults` returns what
        is wrong with the workers' processes, and `silent_seconds` since when none of
        them has reported.
        """
        self._known = known
        self._faults = faults
        self._silent_seconds = silent_seconds
        self.is_draining = False  # the gateway is about to end

    def drain(self) -> None:
        """Set the gateway to unready for good."""
        self.is_draining = True

    @property
    def why_not(self) -> str:
        """The reason for which the gateway isn't ready; empty if any worker is."""
        if self.is_draining:
            return Reason.GATEWAY_DRAINING.name
        reasons = [each.why_not for each in self._known().values()]
        return "" if "" in reasons else next(iter(reasons), NONE_SERVES)

    @property
    def is_dead(self) -> bool:
        """True if no new call can reach any worker.

        A worker that ends is replaced, so without any the gateway is dead only after
        DEAD_SECONDS: by then none could be started.
        """
        if states := self._known().values():
            return all(each.is_dead for each in states)
        return self._silent_seconds() >= DEAD_SECONDS

    @property
    def parts(self) -> list[PartState]:
        """The state of each part, and each different one if workers differ."""
        known = self._known()
        by_name: dict[str, dict[PartState, list[int]]] = {}
        for number, worker in known.items():
            for part in worker.parts:
                by_name.setdefault(part.name, {}).setdefault(part, []).append(number)
        parts = [
            each
            for states in by_name.values()
            for each in (states if len(states) == 1 else _named(states))
        ]
        reason = "" if known else NONE_SERVES
        return [*parts, PartState(WORKERS, reason, "; ".join(self._faults()))]

    @property
    def lines(self) -> list[str]:
        """One line for each state of each part."""
        return [f"{each.name}: {each.text}" for each in self.parts]

    @property
    def live_lines(self) -> list[str]:
        """One line for each state of the only part of liveness, the listeners."""
        return [
            f"{each.name}: {each.fault or 'ok'}"
            for each in self.parts
            if each.name.partition(" ")[0] == LISTENERS
        ] or [f"{LISTENERS}: no worker has reported"]


def _named(states: Mapping[PartState, Sequence[int]]) -> list[PartState]:
    return [
        PartState(f"{state.name} ({worker_names(workers)})", state.reason, state.fault)
        for state, workers in states.items()
    ]
