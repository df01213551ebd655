"""Parsing and formatting durations."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from healthomics_gateway.durations import (
    LONGEST,
    duration_text,
    elapsed_text,
    parse_duration,
)

UNITS = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
}


@settings(max_examples=300, deadline=None)
@given(st.timedeltas(timedelta(0), LONGEST))
def test_formatted_duration_is_parsed_to_the_same_duration(duration: timedelta) -> None:
    """`parse_duration` returns the duration that `duration_text` formatted."""
    assert duration == parse_duration(duration_text(duration))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 8760), st.sampled_from(sorted(UNITS)))
def test_duration_is_a_number_of_its_unit(number: int, unit: str) -> None:
    """A number of a unit is parsed, and formatted in the largest possible unit."""
    duration = parse_duration(f"{number}{unit}")

    assert number * UNITS[unit] == duration
    assert len(duration_text(duration)) <= max(len(f"{number}{unit}"), len("0s"))


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        pytest.param("1.5s", timedelta(milliseconds=1500), id="half"),
        pytest.param("0.001ms", timedelta(microseconds=1), id="the-least"),
        pytest.param("8760h", LONGEST, id="the-most"),
        pytest.param("0000000005s", timedelta(seconds=5), id="zeros-ahead"),
    ],
)
def test_duration_may_have_a_fraction(text: str, duration: timedelta) -> None:
    """A number may have up to three digits after its point."""
    assert duration == parse_duration(text)


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        pytest.param(timedelta(0), "0s", id="none"),
        pytest.param(timedelta(milliseconds=250), "250ms", id="milliseconds"),
        pytest.param(timedelta(milliseconds=1500), "1500ms", id="not-whole-seconds"),
        pytest.param(timedelta(microseconds=1005), "1.005ms", id="microseconds"),
        pytest.param(timedelta(seconds=90), "90s", id="not-whole-minutes"),
        pytest.param(timedelta(minutes=90), "90m", id="not-whole-hours"),
        pytest.param(timedelta(days=1), "24h", id="hours"),
    ],
)
def test_duration_is_formatted_in_its_largest_whole_unit(
    duration: timedelta, text: str
) -> None:
    """The unit is the largest of which the duration is a whole number."""
    assert text == duration_text(duration)


@pytest.mark.parametrize(
    "text",
    [
        *("", "5", "s", "-5s", "+5s", "5 s", " 5s", "5s\n", "5S", "5sec", "5d"),
        *("1h30m", "1,5s", ".5s", "5.s", "1.2345s", "1e3s", "nan", "inf", "5µs"),
        "\N{ARABIC-INDIC DIGIT FIVE}s",
    ],
)
def test_duration_of_another_form_is_refused(text: str) -> None:
    """Text other than a number and a unit is refused with an example."""
    with pytest.raises(ValueError, match="write a duration like 250ms, 5s or 2m"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["8761h", "8760.001h", "999999999999h"])
def test_duration_of_more_than_a_year_is_refused(text: str) -> None:
    """A duration that gRPC can't count is refused."""
    with pytest.raises(ValueError, match="at most a year"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        pytest.param(-7, "0s", id="in-the-future"),
        pytest.param(0, "0s", id="none"),
        pytest.param(59.999, "59s", id="seconds"),
        pytest.param(60, "1m 0s", id="a-minute"),
        pytest.param(3599, "59m 59s", id="minutes"),
        pytest.param(3600, "1h 0m", id="an-hour"),
        pytest.param(86399, "23h 59m", id="hours"),
        pytest.param(86400, "1d 0h", id="a-day"),
        pytest.param(40 * 86400 + 3 * 3600 + 59 * 60, "40d 3h", id="days"),
    ],
)
def test_elapsed_time_is_formatted_in_two_units(seconds: float, text: str) -> None:
    """It has the two largest units, is rounded down, and is never negative."""
    assert text == elapsed_text(timedelta(seconds=seconds))
