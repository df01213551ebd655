"""The operator's rules: which callers a rule applies to, and what it allows."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from healthomics.v1.run_pb2 import Run
from healthomics_gateway.auth.policy import (
    ALL_METHODS,
    ALLOW_ALL,
    ANONYMOUS,
    Access,
    Policy,
    Rule,
    RuleIndex,
    neighbour_of,
)
from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.runs.source import OWN, Partition

LIMS = "spiffe://corp/ns/lims/sa/reader"
ROLE = "arn:aws:iam::123456789012:role/omics-read-lims"
BOTH = frozenset({"GetRun", "WatchRun"})


def rule(identity: str = "*", **what: object) -> Rule:
    """Return a rule for an identity."""
    return Rule(**{"identity": identity, "methods": BOTH, **what})


def refusal(policy: Policy, identity: str, method: str = "GetRun") -> Reason | None:
    """Return why a caller may not call a method, None if it may."""
    try:
        policy.access_of(identity, method)
    except GatewayError as error:
        return error.reason
    return None


@pytest.mark.guarantee("policy")
@pytest.mark.parametrize(
    ("pattern", "identity", "is_match"),
    [
        pytest.param(LIMS, LIMS, True, id="whole"),
        pytest.param(LIMS, LIMS + "x", False, id="longer"),
        pytest.param(LIMS, LIMS[:-1], False, id="shorter"),
        pytest.param(LIMS, LIMS.upper(), False, id="other-case"),
        pytest.param("spiffe://corp/ns/lims/*", LIMS, True, id="below"),
        pytest.param(
            "spiffe://corp/ns/lims/*", "spiffe://corp/ns/lims/", False, id="0"
        ),
        pytest.param(
            "spiffe://corp/ns/lims/*", "spiffe://corp/ns/limsy", False, id="y"
        ),
        pytest.param("spiffe://corp/*", "spiffe://corp.evil/x", False, id="domain"),
        pytest.param("*", LIMS, True, id="everyone-known"),
        pytest.param("*", ANONYMOUS, False, id="anonymous-by-star"),
        pytest.param("anon*", ANONYMOUS, False, id="anonymous-by-prefix"),
        pytest.param(ANONYMOUS, ANONYMOUS, True, id="anonymous-by-name"),
    ],
)
def test_rule_matches_its_identity(
    pattern: str, identity: str, *, is_match: bool
) -> None:
    """An identity must be equal; a * at the end matches one or more characters."""
    assert is_match == rule(pattern).matches(identity)


@given(st.text(), st.text())
def test_rule_without_a_star_matches_one_identity(mine: str, other: str) -> None:
    """No identity but the rule's own matches."""
    named = mine.rstrip("*")
    assert (named == other) == rule(named).matches(other)


# Few letters, so that the identities often match.
IDENTITIES = st.one_of(
    st.text("ab*", max_size=4),
    st.sampled_from([ANONYMOUS, ANONYMOUS + "x", "anon*", ANONYMOUS + "*"]),
)


@given(st.lists(IDENTITIES, max_size=8), IDENTITIES)
@example(["anon*", "*", ANONYMOUS], ANONYMOUS)
@example(["a", "ab*", "a*"], "ab*")
def test_index_finds_the_first_rule_that_matches(
    identities: list[str], identity: str
) -> None:
    """It finds the same rule as a look at each, also for a pattern."""
    matching = (
        at for at, each in enumerate(identities) if rule(each).matches(identity)
    )

    assert next(matching, None) == RuleIndex(identities).first(identity)


@pytest.mark.guarantee("policy")
def test_first_rule_about_a_caller_decides() -> None:
    """A later rule neither extends nor restricts an earlier one."""
    watcher = rule(LIMS, methods=frozenset({"WatchRun"}))
    policy = Policy([watcher, rule("*")])

    assert Reason.CALLER_NOT_AUTHORIZED is refusal(policy, LIMS)
    assert refusal(policy, LIMS, "WatchRun") is None
    assert refusal(policy, "another") is None


@pytest.mark.guarantee("policy")
def test_caller_without_a_rule_is_denied() -> None:
    """Once any rule exists, a caller that matches no rule is denied."""
    policy = Policy([rule(LIMS)])

    for method in sorted(ALL_METHODS):
        assert Reason.CALLER_NOT_AUTHORIZED is refusal(policy, "else", method)
        assert Reason.CALLER_NOT_AUTHORIZED is refusal(policy, ANONYMOUS, method)
    assert Reason.CALLER_NOT_AUTHORIZED is refusal(policy, LIMS, "Reflection")
    assert not policy.knows(ANONYMOUS)


def test_replaced_rules_hold_at_once() -> None:
    """A caller that is known already is checked by the new rules."""
    policy = Policy([rule(LIMS)])
    assert refusal(policy, LIMS) is None
    policy.replace([rule("another")])

    assert Reason.CALLER_NOT_AUTHORIZED is refusal(policy, LIMS)
    assert refusal(policy, "another") is None


def test_without_rules_every_caller_is_allowed() -> None:
    """Without rules there are no limits."""
    access = Policy().access_of(ANONYMOUS, "Reflection")

    assert ALLOW_ALL is access.rule
    assert access.sees(Run())
    assert not access.is_restricted


@pytest.mark.guarantee("role-sessions")
def test_access_has_the_identity_of_its_caller() -> None:
    """Two callers that match the same rule keep their own identities."""
    policy = Policy([rule("*")])

    assert "alice" == policy.access_of("alice", "GetRun").identity
    assert "bob" == policy.access_of("bob", "GetRun").identity
    assert policy.knows("alice")


@pytest.mark.parametrize(
    ("what", "run", "is_seen"),
    [
        pytest.param({}, Run(), True, id="unbound"),
        pytest.param({"run_groups": {"1"}}, Run(run_group_id="1"), True, id="group"),
        pytest.param({"run_groups": {"1"}}, Run(run_group_id="2"), False, id="other"),
        pytest.param({"run_groups": {"1"}}, Run(run_group_id="11"), False, id="prefix"),
        pytest.param({"run_groups": {"1"}}, Run(), False, id="no-group"),
        pytest.param({"run_groups": {"1", "2"}}, Run(run_group_id="2"), True, id="any"),
        pytest.param({"tags": {"a": "b"}}, Run(tags={"a": "b"}), True, id="tag"),
        pytest.param({"tags": {"a": "b"}}, Run(tags={"a": "c"}), False, id="value"),
        pytest.param({"tags": {"a": "b"}}, Run(tags={"A": "b"}), False, id="case"),
        pytest.param({"tags": {"a": ""}}, Run(tags={"a": ""}), True, id="empty-value"),
        pytest.param({"tags": {"a": ""}}, Run(), False, id="no-tag"),
        pytest.param(
            {"tags": {"a": "b", "c": "d"}}, Run(tags={"a": "b"}), False, id="all-tags"
        ),
        pytest.param(
            {"tags": {"a": "b"}, "run_groups": {"1"}},
            Run(tags={"a": "b"}, run_group_id="2"),
            False,
            id="group-and-tags",
        ),
        pytest.param(
            {"tags": {"a": "b"}},
            Run(unmodeled_json={"tags": '{"a": "b", "a": "c"}'}),
            False,
            id="tags-that-are-ambiguous",
        ),
        pytest.param(
            {"run_groups": {"1"}},
            Run(unmodeled_json={"runGroupId": "1"}),
            False,
            id="group-that-is-a-number",
        ),
    ],
)
def test_caller_sees_the_runs_of_its_rule(
    what: dict[str, object], run: Run, *, is_seen: bool
) -> None:
    """A run must be in one of the groups and have all of the tags exactly."""
    access = Access(LIMS, rule(**what))

    assert is_seen == access.sees(run)
    if is_seen:
        access.check(run)
    else:
        with pytest.raises(GatewayError, match="CALLER_NOT_AUTHORIZED"):
            access.check(run)


@pytest.mark.parametrize("reason", list(Reason), ids=lambda reason: reason.name)
def test_errors_that_reveal_a_run_are_hidden_from_restricted_callers(
    reason: Reason,
) -> None:
    """A caller that may see only some runs can't find out whether a run exists."""
    error = GatewayError(reason)
    restricted = Access(LIMS, rule(run_groups=frozenset({"1"})))

    assert reason.value.reveals_run == restricted.hides(error)
    assert not Access(LIMS, rule()).hides(error)


@pytest.mark.guarantee("hidden-runs")
def test_every_verdict_on_a_run_is_hidden() -> None:
    """No error of AWS that a restricted caller may receive depends on the run."""
    received = {
        each
        for each in Reason
        if each.name.startswith(("RUN_", "UPSTREAM_")) and not each.value.reveals_run
    }

    assert {
        Reason.RUN_REPLACED,  # it is about runs that the caller may see
        Reason.UPSTREAM_CONNECTION,
        Reason.UPSTREAM_DNS,
        Reason.UPSTREAM_INTERNAL,
        Reason.UPSTREAM_QUOTA_EXCEEDED,  # the account's
        Reason.UPSTREAM_THROTTLED,
        Reason.UPSTREAM_TIMEOUT,
        Reason.UPSTREAM_TLS,
        Reason.UPSTREAM_TLS_UNTRUSTED,
        Reason.UPSTREAM_UNAVAILABLE,
        Reason.UPSTREAM_UNEXPECTED_REDIRECT,  # of the endpoint
    } == received


def test_partition_is_the_role_and_its_caller() -> None:
    """Each caller with a role has a partition; those without a role share one."""
    assert Partition(ROLE, LIMS) == Access(LIMS, rule(aws_role=ROLE)).partition
    assert OWN == Access(LIMS, rule()).partition


@pytest.mark.parametrize(
    ("pattern", "other"),
    [
        pytest.param("spiffe://corp*", "spiffe://corp.evil/x", id="trust-domain"),
        pytest.param("spiffe://*", "spiffe://evil/x", id="any-trust-domain"),
        pytest.param("spiffe://corp/ns/lims*", "spiffe://corp/ns/lims-evil", id="path"),
        pytest.param("CN=lims*", "CN=lims-evil", id="subject"),
        pytest.param("lims.*", "lims.-evil", id="dns-name"),
        pytest.param("lims*", "lims-evil", id="claim"),
        pytest.param("spiffe://corp/*", None, id="trust-domain-as-it-should-be"),
        pytest.param("system:serviceaccount:lims:*", None, id="namespace"),
        pytest.param("auth0|*", None, id="provider"),
        pytest.param("CN=lims,*", None, id="subject-with-more"),
        pytest.param("*", None, id="everyone"),
        pytest.param("spiffe://corp", None, id="whole"),
    ],
)
def test_pattern_that_may_match_too_much_is_found(
    pattern: str, other: str | None
) -> None:
    """A star that follows no separator also matches the rest of another name."""
    assert other == neighbour_of(pattern)
    assert other is None or Rule(pattern, ALL_METHODS).matches(other)
