"""The policy: the operator's rules on callers."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cachetools import LRUCache

from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.runs.source import OWN, Partition

if TYPE_CHECKING:
    from healthomics.v1.run_pb2 import Run

ANONYMOUS = "anonymous"  # a caller without credentials; no credential has this name
SEPARATORS = ("/", ":", "|", ",")  # of the parts of an identity, from the widest part
MAX_KNOWN = 10_000  # callers whose access is cached


@dataclass(frozen=True, slots=True)
class Credential:
    """A proven identity, and until when the proof is valid."""

    identity: str
    until: float = math.inf  # seconds since 1970: when it expires
    # Returns False once it is withdrawn.
    holds: Callable[[], bool] = field(default=lambda: True, compare=False)


@dataclass(frozen=True, slots=True)
class Rule:
    """The permissions and limits of the callers with an identity."""

    identity: str  # a whole one, or a prefix and * for one or more characters
    methods: frozenset[str]
    run_groups: frozenset[str] | None = None  # ids: only their runs are visible
    # Only runs with all of these tags are visible.
    tags: Mapping[str, str] = field(default_factory=dict)
    withhold: frozenset[str] = frozenset()  # AWS's names of the members to omit
    calls_per_second: float | None = None
    concurrent_calls: int | None = None
    watches: int | None = None
    aws_role: str | None = None  # ARN of the role that is assumed for each caller
    label: str = ""  # in metrics: its position, and identity if shown; empty: no rules

    def matches(self, identity: str) -> bool:
        """Return whether the rule applies to this caller."""
        if not self.identity.endswith("*"):
            return identity == self.identity
        start = self.identity[:-1]
        is_longer = len(identity) > len(start) and identity.startswith(start)
        return is_longer and identity != ANONYMOUS


class RuleIndex:
    """Finds the first rule that applies to a caller, however many rules there are."""

    def __init__(self, identities: Iterable[str]) -> None:
        """Take the identity or pattern of each rule, in order."""
        self._positions: dict[str, int] = {}
        for at, each in enumerate(identities):
            self._positions.setdefault(each, at)
        patterns = (each for each in self._positions if each.endswith("*"))
        self._lengths = sorted({len(each) - 1 for each in patterns})  # without the *

    def first(self, identity: str) -> int | None:
        """Return the position of the first rule that applies to this caller.

        If `identity` is a pattern, return that of the first rule that applies to every
        caller that it matches.
        """
        keys = [identity]
        if identity != ANONYMOUS:
            shorter = self._lengths[: bisect_left(self._lengths, len(identity))]
            keys += [f"{identity[:length]}*" for length in shorter]
        found = (self._positions.get(each) for each in keys)
        return min((at for at in found if at is not None), default=None)


def neighbour_of(pattern: str) -> str | None:
    """Return an identity that a pattern matches, probably against its author's intent.

    Return None if the pattern has no `*`, or if the `*` follows a separator and, in a
    URI, the complete authority. Then all that it matches belongs to one name.
    """
    start = pattern.removesuffix("*")
    if start in (pattern, ""):
        return None
    _, is_uri, rest = start.partition("://")
    if is_uri and "/" not in rest:
        return f"{start}.evil/x" if rest else f"{start}evil/x"
    return None if start.endswith(SEPARATORS) else f"{start}-evil"


ALL_METHODS = frozenset({"GetRun", "WatchRun", "Health", "Reflection", "Channelz"})
ALLOW_ALL = Rule("", ALL_METHODS)  # for every caller, if there are no rules
# For a caller that no rule applies to.
DENY_ALL = Rule("", frozenset(), label="none")


@dataclass(frozen=True, slots=True, eq=False)
class Access:
    """The permissions of one caller, by the rule that applies to it."""

    identity: str
    rule: Rule

    @property
    def partition(self) -> Partition:
        """The AWS identity that reads runs for this caller."""
        role = self.rule.aws_role
        return Partition(role, self.identity) if role else OWN

    @property
    def is_restricted(self) -> bool:
        """Return whether the caller may see only some runs."""
        return self.rule.run_groups is not None or bool(self.rule.tags)

    def sees(self, run: Run) -> bool:
        """Return whether the caller may see this run.

        A member that couldn't be typed exactly is absent, and so matches no rule.
        """
        groups, tags = self.rule.run_groups, self.rule.tags
        if groups is not None and run.run_group_id not in groups:
            return False
        return all(run.tags.get(key) == value for key, value in tags.items())

    def check_method(self, method: str) -> None:
        """Raise CALLER_NOT_AUTHORIZED if the caller may not call this method."""
        if method not in self.rule.methods:
            raise GatewayError(Reason.CALLER_NOT_AUTHORIZED)

    def check(self, run: Run) -> None:
        """Raise CALLER_NOT_AUTHORIZED if the caller may not see this run."""
        if not self.sees(run):
            raise GatewayError(Reason.CALLER_NOT_AUTHORIZED)

    def hides(self, error: GatewayError) -> bool:
        """Return whether an error would reveal a run to a restricted caller."""
        return self.is_restricted and error.reason.value.reveals_run


UNRULED = Access(ANONYMOUS, ALLOW_ALL)


class Policy:
    """The operator's rules. The first rule that applies to a caller decides.

    Once any rule exists, a caller that matches no rule is denied.
    """

    def __init__(self, rules: Sequence[Rule] = ()) -> None:
        """Create a policy; without `rules`, every call is allowed."""
        self._known: LRUCache[str, Access] = LRUCache(MAX_KNOWN)
        self.replace(rules)

    def replace(self, rules: Sequence[Rule]) -> None:
        """Use these rules from now on."""
        self.rules = rules
        self._index = RuleIndex(each.identity for each in rules)
        self._known.clear()

    def knows(self, identity: str) -> bool:
        """Return whether a rule applies to this caller."""
        return self._index.first(identity) is not None

    def access_of(self, identity: str, method: str) -> Access:
        """Return a caller's access, or raise CALLER_NOT_AUTHORIZED for this method."""
        found = self.find(identity)
        found.check_method(method)
        return found

    def find(self, identity: str) -> Access:
        """Return a caller's access, which may allow no method."""
        found = self._known.get(identity)
        if found is None:
            found = self._known[identity] = Access(identity, self._rule_for(identity))
        return found

    def _rule_for(self, identity: str) -> Rule:
        if not self.rules:
            return ALLOW_ALL
        at = self._index.first(identity)
        return DENY_ALL if at is None else self.rules[at]
