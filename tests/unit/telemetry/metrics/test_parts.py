"""The numbers of calls by rule."""

from __future__ import annotations

from healthomics_gateway.telemetry.metrics.parts import RuleCalls


def test_calls_without_rules_have_an_empty_label() -> None:
    """If there are no rules, each call counts for the empty label."""
    calls = RuleCalls()
    calls.set_rules((), other="")
    calls.count("")

    assert {"": 1} == calls.numbers


def test_calls_count_for_their_rule_or_for_none() -> None:
    """A call counts for its rule; one without a proven identity for `none`."""
    calls = RuleCalls()
    calls.set_rules(("1:a", "2:b"), other="none")
    for label in ("1:a", "1:a", "none", ""):
        calls.count(label)

    assert {"1:a": 2, "2:b": 0, "none": 2} == calls.numbers


def test_replaced_rules_keep_the_numbers_of_those_that_stay() -> None:
    """New rules begin at 0; a call that a removed rule applied to counts for `none`."""
    calls = RuleCalls()
    calls.set_rules(("1:a", "2:b"), other="none")
    calls.count("1:a")
    calls.count("2:b")
    calls.set_rules(("1:a", "2:c"), other="none")
    calls.count("2:b")

    assert {"1:a": 1, "2:c": 0, "none": 1} == calls.numbers
