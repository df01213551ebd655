"""The metrics that each part of the gateway sets, bound to their labels.

By default each is a metric that does nothing, so that no part needs a registry.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol, TypeAlias

# The labels of an exemplar, such as the id of a call that was counted.
Exemplar: TypeAlias = dict[str, str]


class Count(Protocol):
    """A counter with its labels, as prometheus-client has it."""

    def inc(self, amount: float = 1, exemplar: Exemplar | None = None) -> None:
        """Add `amount`."""
        ...


class Distribution(Protocol):
    """A histogram with its labels, as prometheus-client has it."""

    def observe(self, amount: float, exemplar: Exemplar | None = None) -> None:
        """Count `amount` in its bucket."""
        ...


class Nothing:
    """A metric that isn't kept."""

    def inc(self, amount: float = 1, exemplar: Exemplar | None = None) -> None:
        """Do nothing."""

    def observe(self, amount: float, exemplar: Exemplar | None = None) -> None:
        """Do nothing."""


NOTHING = Nothing()
NO_COUNTS: Mapping[str, Count] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodMetrics:
    """The calls of one gRPC method."""

    started: Count = NOTHING
    handled: Mapping[str, Count] = field(default_factory=dict)  # by `grpc.StatusCode`
    seconds: Distribution = NOTHING
    received: Count = NOTHING  # messages
    sent: Count = NOTHING  # messages


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptMetrics:
    """The attempts at HealthOmics."""

    ok: Count = NOTHING
    errors: Mapping[str, Count] = field(default_factory=dict)  # by reason
    ok_seconds: Distribution = NOTHING
    error_seconds: Distribution = NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueMetrics:
    """The seconds that calls and polls waited for their turn."""

    call_seconds: Distribution = NOTHING
    poll_seconds: Distribution = NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchMetrics:
    """The polls of watched runs, and the changes that their watches received."""

    polls_ok: Count = NOTHING
    polls_failed: Count = NOTHING
    changes: Count = NOTHING
    change_delay_seconds: Distribution = NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreMetrics:
    """The commands to the shared store, and the answers in it."""

    seconds: Distribution = NOTHING  # that a command takes
    answers: Count = NOTHING  # that were found in the store
    values_rejected: Count = NOTHING


class RuleCalls:
    """The number of calls by the label of the rule that applied to their callers.

    It begins without rules: every call counts for the empty label.
    """

    def __init__(self) -> None:
        """Begin without rules."""
        self.numbers = {"": 0}
        self._other = ""

    def set_rules(self, labels: tuple[str, ...], *, other: str) -> None:
        """Count for these rules from now on; a label that was known keeps its number.

        `other` is the label of a call to which none of them applies. Call it when the
        rules change.
        """
        self._other = other
        kept = (*labels, self._other)
        self.numbers = {each: self.numbers.get(each, 0) for each in kept}

    def count(self, label: str) -> None:
        """Count one call, also by a rule that has been removed meanwhile."""
        self.numbers[label if label in self.numbers else self._other] += 1
