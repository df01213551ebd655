"""The checks of several settings together, against a plain definition of each."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from healthomics_gateway.auth.policy import Rule
from healthomics_gateway.settings.checks import caller_faults
from healthomics_gateway.settings.schema import Settings

# Few letters, so that they often match one another.
PATTERNS = st.from_regex(r"[ab]{1,3}\*?|\*|anonymous?\*?", fullmatch=True)


def covering(patterns: Sequence[str]) -> list[tuple[int, int]]:
    """Return each rule that can't apply, and the first earlier one that covers it."""
    covered = []
    for at, pattern in enumerate(patterns):
        for before, earlier in enumerate(patterns[:at]):
            if earlier == pattern or Rule(earlier, frozenset()).matches(pattern):
                covered.append((at, before))
                break
    return covered


@given(st.lists(PATTERNS, max_size=8))
def test_rules_that_an_earlier_one_covers_are_faults(patterns: list[str]) -> None:
    """Each such rule has one fault, which names the first rule that covers it."""
    settings = Settings(
        callers=tuple({"identity": each} for each in patterns),
    )
    advice = "already matches all of these callers; remove this rule, or move it up"
    expected = [
        f"callers[{at}].identity {patterns[at]}: callers[{before}] {advice}"
        for at, before in covering(patterns)
    ]
    faults = [fault for names, fault in caller_faults(settings) if not names]

    assert expected == faults
