"""Who calls, and what they may: the operator's rules on callers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cachetools import LRUCache

from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.runs.source import OWN, Partition

if TYPE_CHECKING:
    from healthomics.v1.run_pb2 import Run

ANONYMOUS = "anonymous"  # who has proven nothing; nobody can prove this name
SEPARATORS = ("/", ":", "|", ",")  # between the parts of an identity, the widest first
MAX_KNOWN = 10_000  # callers whose access is kept; the others' is found again


@dataclass(frozen=True, slots=True)
class Credential:
    """What proves an identity, and for how long."""

    identity: str
    until: float = math.inf  # seconds since 1970; from then on it has expired
    # Whether it isn't withdrawn.
    holds: Callable[[], bool] = field(default=lambda: True, compare=False)


@dataclass(frozen=True, slots=True)
class Rule:
    """What callers of an identity may."""

    identity: str  # whole, or with a * at its end for one character or more
    methods: frozenset[str]
    run_groups: frozenset[str] | None = None  # ids: only runs of these
    tags: Mapping[str, str] = field(default_factory=dict)  # only runs with all of them
    withhold: frozenset[str] = frozenset()  # AWS's names of members
    calls_per_second: float | None = None
    concurrent_calls: int | None = None
    watches: int | None = None
    aws_role: str | None = None  # ARN, assumed for each of these callers

    def matches(self, identity: str) -> bool:
        """Tell whether the rule is about this caller."""
        if not self.identity.endswith("*"):
            return identity == self.identity
        start = self.identity[:-1]
        is_longer = len(identity) > len(start) and identity.startswith(start)
        return is_longer and identity != ANONYMOUS

    def covers(self, other: Rule) -> bool:
        """Tell whether every caller whom the other is about is this one's too."""
        return other.identity == self.identity or self.matches(other.identity)


def neighbour_of(pattern: str) -> str | None:
    """Return an identity that a pattern matches, and may not be meant to.

    Return None if the pattern has no `*`, or if the `*` follows a separator, and in a
    URI the whole of its authority: what it matches is then below one name.
    """
    start = pattern.removesuffix("*")
    if start in (pattern, ""):
        return None
    _, is_uri, rest = start.partition("://")
    if is_uri and "/" not in rest:
        return f"{start}.evil/x" if rest else f"{start}evil/x"
    return None if start.endswith(SEPARATORS) else f"{start}-evil"


ALL_METHODS = frozenset({"GetRun", "WatchRun", "Health", "Reflection"})
EVERYTHING = Rule("", ALL_METHODS)  # for everyone, where there are no rules
NOTHING = Rule("", frozenset())  # for those whom none of the rules is about


@dataclass(frozen=True, slots=True, eq=False)
class Access:
    """What one caller may, by the rule that is about it."""

    identity: str
    rule: Rule

    @property
    def partition(self) -> Partition:
        """As whom HealthOmics is asked for this caller."""
        role = self.rule.aws_role
        return Partition(role, self.identity) if role else OWN

    @property
    def is_bound(self) -> bool:
        """Whether it may see some runs and not others."""
        return self.rule.run_groups is not None or bool(self.rule.tags)

    def sees(self, run: Run) -> bool:
        """Tell whether it may see this run.

        What couldn't be typed exactly isn't there, and so fits no rule.
        """
        groups, tags = self.rule.run_groups, self.rule.tags
        if groups is not None and run.run_group_id not in groups:
            return False
        return all(run.tags.get(key) == value for key, value in tags.items())

    def check(self, run: Run) -> None:
        """Raise CALLER_NOT_AUTHORIZED where it may not see this run."""
        if not self.sees(run):
            raise GatewayError(Reason.CALLER_NOT_AUTHORIZED)

    def hides(self, error: GatewayError) -> bool:
        """Return whether a failure would show a bound caller something of the run."""
        return self.is_bound and error.reason.value.reveals_run


UNRULED = Access(ANONYMOUS, EVERYTHING)


class Policy:
    """The operator's rules: the first that is about a caller decides."""

    def __init__(self, rules: Sequence[Rule] = ()) -> None:
        """Let everyone do everything where there are no `rules`."""
        self._rules = rules
        self._known: LRUCache[str, Access] = LRUCache(MAX_KNOWN)

    def knows(self, identity: str) -> bool:
        """Tell whether some rule is about this caller."""
        return any(each.matches(identity) for each in self._rules)

    def access_of(self, identity: str, method: str) -> Access:
        """Give what a caller may; raise CALLER_NOT_AUTHORIZED unless it may do this."""
        found = self._known.get(identity)
        if found is None:
            found = self._known[identity] = Access(identity, self._rule_for(identity))
        if method not in found.rule.methods:
            raise GatewayError(Reason.CALLER_NOT_AUTHORIZED)
        return found

    def _rule_for(self, identity: str) -> Rule:
        if not self._rules:
            return EVERYTHING
        return next((each for each in self._rules if each.matches(identity)), NOTHING)
