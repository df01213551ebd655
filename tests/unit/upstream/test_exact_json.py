"""Tests of parsing JSON exactly."""

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from healthomics_gateway.upstream.exact_json import (
    MAX_VALUES,
    Number,
    TooManyValuesError,
    exact_double,
    exact_instant,
    exact_int32,
    member_spans,
    parse_object,
)

SCALARS = st.none() | st.booleans() | st.integers() | st.text()
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
    ),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(), VALUES, max_size=6)
SPACE = st.sampled_from(("", " ", "\t\n\r "))
SPELLINGS = st.sampled_from(
    ({}, {"ensure_ascii": False}, {"indent": 0}, {"indent": 3, "ensure_ascii": False})
)


def plain(value: Any) -> Any:
    """Convert a parsed value to that of the standard library."""
    match value:
        case Number():
            return int(value)
        case tuple():
            return {name: plain(each) for name, each in value}
        case list():
            return [plain(each) for each in value]
        case _:
            return value


@settings(max_examples=50, deadline=None, derandomize=True)
@given(OBJECTS, SPELLINGS, SPACE)
def test_parse_object_reads_json(
    value: dict[str, Any], spelling: dict[str, Any], space: str
) -> None:
    """An object is parsed with any white space and escapes."""
    text = space + json.dumps(value, **spelling) + space

    assert value == plain(parse_object(text))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("   ", id="space"),
        pytest.param("<html></html>", id="html"),
        pytest.param("[]", id="array"),
        pytest.param("null", id="null"),
        pytest.param('"{}"', id="text"),
        pytest.param("12", id="number"),
        pytest.param("true", id="true"),
        pytest.param('{"a":1', id="cut"),
        pytest.param('{"a":"\\u12"}', id="cut-escape"),
        pytest.param('{"a":1}{"a":1}', id="two"),
        pytest.param('{"a":1}x', id="trailing"),
        pytest.param("{}\x00", id="trailing-nul"),
        pytest.param("{}\u00a0", id="trailing-no-break-space"),
        pytest.param("\ufeff{}", id="byte-order-mark"),
        pytest.param('{"a":NaN}', id="nan"),
        pytest.param('{"a":Infinity}', id="infinity"),
        pytest.param('{"a":-Infinity}', id="minus-infinity"),
        pytest.param('{"a":01}', id="leading-zero"),
        pytest.param('{"a":+1}', id="plus"),
        pytest.param('{"a":1.}', id="no-fraction"),
        pytest.param('{"a":.5}', id="no-whole"),
        pytest.param('{"a":1e}', id="no-exponent"),
        pytest.param('{"a":0x1}', id="hexadecimal"),
        pytest.param('{"a":\u0661}', id="arabic-digit"),
        pytest.param('{"a":1,}', id="trailing-comma"),
        pytest.param("{'a':1}", id="single-quotes"),
        pytest.param("{a:1}", id="bare-name"),
        pytest.param('{"a":"\n"}', id="raw-newline"),
        pytest.param('{"a":"\x00"}', id="raw-nul"),
        pytest.param('{"a":"\\x41"}', id="unknown-escape"),
        pytest.param("{/**/}", id="comment"),
    ],
)
def test_parse_object_refuses_other_texts(text: str) -> None:
    """Any text but one JSON object raises ValueError."""
    with pytest.raises(ValueError, match=r".+"):
        parse_object(text)


def nested(
    levels: int, opening: str = "[", inmost: str = "", closing: str = "]"
) -> str:
    """Return the text of an object with a number of levels, its own included."""
    return '{"a":' + opening * (levels - 1) + inmost + closing * (levels - 1) + "}"


@pytest.mark.parametrize(
    "brackets",
    [
        pytest.param(("[", "", "]"), id="arrays"),
        pytest.param(('{"a":', "1", "}"), id="objects"),
    ],
)
def test_parse_object_reads_500_levels(brackets: tuple[str, str, str]) -> None:
    """500 levels are parsed; 501 and 100,000 raise ValueError."""
    assert parse_object(nested(500, *brackets))
    for levels in (501, 100_000):
        with pytest.raises(ValueError, match="nested too deep"):
            parse_object(nested(levels, *brackets))


@pytest.mark.parametrize(
    ("value", "count"),
    [
        pytest.param("[]", 2, id="arrays"),
        pytest.param("{}", 2, id="objects"),
        pytest.param('""', 1, id="texts"),
        pytest.param("1", 1, id="numbers"),
        pytest.param("[[1]]", 3, id="nested"),
        pytest.param('{"a":1}', 2, id="members"),
    ],
)
def test_parse_object_limits_the_values(value: str, count: int) -> None:
    """MAX_VALUES values are parsed; one more raises TooManyValuesError."""
    beside = 3  # the object, the array and the text
    values = [value] * ((MAX_VALUES - beside) // count)
    parse_object(f'{{"a":[{",".join(values)}],"b":"[{{"}}')
    with pytest.raises(TooManyValuesError):
        parse_object(f'{{"a":[{",".join([*values, value, value, value])}]}}')


@pytest.mark.parametrize("text", ["[", "{", ",", '\\",', "\\\\,"])
def test_parse_object_counts_no_values_within_strings(text: str) -> None:
    """Commas and brackets within strings aren't counted as values."""
    parsed = dict(parse_object(json.dumps({"a": text * MAX_VALUES, "b": 1})))

    assert text * MAX_VALUES == parsed["a"]


def test_parse_object_counts_levels_not_brackets() -> None:
    """Adjacent containers and brackets within strings don't count as levels."""
    text = f'{{"a":[{"[{}]," * 600}1],"b":"{"[" * 600}"}}'

    assert ["a", "b"] == [name for name, _ in parse_object(text)]


def test_parse_object_keeps_numbers_and_duplicates_as_written() -> None:
    """Numbers keep their digits, and duplicate names are kept."""
    digits = "9" * 5000
    parsed = parse_object(f'{{"a":1.50,"a":{digits},"b":-0,"c":1E+2}}')

    assert (("a", "1.50"), ("a", digits), ("b", "-0"), ("c", "1E+2")) == parsed
    assert {Number} == {type(value) for _, value in parsed}


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.text(), VALUES, SPACE, SPACE), max_size=6))
def test_member_spans_cut_out_each_value(
    members: list[tuple[str, Any, str, str]],
) -> None:
    """A member's span is its value's text without white space around it."""
    texts = {name: json.dumps(value) for name, value, _, _ in members}
    lines = [
        f"{before}{json.dumps(name)}{after}:{before}{json.dumps(value)}{after}"
        for name, value, before, after in members
    ]
    text = f" {{{','.join(lines)} }} "

    spans = member_spans(text)

    assert texts == {name: text[start:end] for name, (start, end) in spans.items()}


def test_member_spans_start_at_an_inner_object() -> None:
    """`start` selects an inner object."""
    text = '{"a": {"b": [1, {}], "c" : "}"}, "d": 2}'
    begin, end = member_spans(text)["a"]
    inner = {name: text[of] for name, of in spans_of(text, begin).items()}

    assert '{"b": [1, {}], "c" : "}"}' == text[begin:end]
    assert {"b": "[1, {}]", "c": '"}"'} == inner


def spans_of(text: str, start: int) -> dict[str, slice]:
    """Return the text of each member of an object."""
    return {name: slice(*span) for name, span in member_spans(text, start).items()}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("-0", 0),
        ("7", 7),
        ("-7", -7),
        ("100000", 100_000),
        ("2147483647", 2**31 - 1),
        ("-2147483648", -(2**31)),
        ("1.0", 1),
        ("-1.000", -1),
        ("1e2", 100),
        ("1200e-2", 12),
        ("12.50e1", 125),
        ("0e99999999999999999999", 0),
        ("-0.0E-99999999999999999999", 0),
    ],
)
def test_exact_int32_reads_integers_in_any_spelling(text: str, expected: int) -> None:
    """A number that is an integer of 32 bits is returned, in any spelling."""
    assert expected == exact_int32(Number(text))


@pytest.mark.parametrize(
    "text",
    [
        *("2147483648", "-2147483649", "9999999999", "1e10", "1.5", "-0.1", "1e-1"),
        *("0.9999999999999999999999", "1.0000000000000000000001", "9" * 5000, "1e400"),
        *("1e999999999999", "1e-999999999999", "1e99999999999999999999"),
        "1e-99999999999999999999",
    ],
)
def test_exact_int32_refuses_other_numbers(text: str) -> None:
    """A number out of range or with a fraction raises ValueError."""
    with pytest.raises(ValueError, match=r".+"):
        exact_int32(Number(text))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.integers(-(2**33), 2**33))
def test_exact_int32_reads_only_32_bits(value: int) -> None:
    """An integer of 32 bits is returned; any other raises ValueError."""
    if -(2**31) <= value < 2**31:
        assert value == exact_int32(Number(value))
    else:
        with pytest.raises(ValueError, match="32 bits"):
            exact_int32(Number(value))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0.0),
        ("-0", 0.0),
        ("0.1", 0.1),
        ("0.10", 0.1),
        ("1.0", 1.0),
        ("1e22", 1e22),
        ("1e23", 1e23),
        ("9007199254740991", 2.0**53 - 1),
        ("9007199254740992", 2.0**53),
        ("123456789012345", 123456789012345.0),
        ("-2.75E+1", -27.5),
        ("5e-324", 5e-324),
        ("1.7976931348623157e308", 1.7976931348623157e308),
        ("100000000000000000000.000", 1e20),
        ("0e99999999999999999999", 0.0),
        ("0.00e-99999999999999999999", 0.0),
    ],
)
def test_exact_double_reads_exact_numbers(text: str, expected: float) -> None:
    """A number that a double represents exactly is returned."""
    assert expected == exact_double(Number(text))


@pytest.mark.parametrize(
    "text",
    [
        *("9007199254740993", "-9007199254740993", "18446744073709551616", "1e400"),
        *("-1e400", "1e-400", "4.9e-324", "0.30000000000000001", "9" * 30, "9" * 5000),
        *("0.1000000000000000055511151231257827", "3.141592653589793238"),
        *("1e99999999999999999999", "1e-99999999999999999999", "1e999999999999"),
    ],
)
def test_exact_double_refuses_inexact_numbers(text: str) -> None:
    """A number that a double would round raises ValueError."""
    with pytest.raises(ValueError, match=r".+"):
        exact_double(Number(text))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.from_regex(
        r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?", fullmatch=True
    )
)
def test_exact_double_is_exact_or_refuses(text: str) -> None:
    """A number is returned if and only if the double's shortest decimal equals it."""
    try:
        double = exact_double(Number(text))
    except ValueError:
        is_carried = Decimal(text) == Decimal(repr(float(text)))
        assert not is_carried
    else:
        assert Decimal(text) == Decimal(repr(double))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_exact_double_reads_every_double(value: float) -> None:
    """The text of any double is parsed as that double."""
    assert value == exact_double(Number(repr(value)))


@pytest.mark.parametrize(
    ("text", "seconds", "nanos"),
    [
        pytest.param("1970-01-01T00:00:00Z", 0, 0, id="epoch"),
        pytest.param("2024-05-01T00:00:00Z", 1_714_521_600, 0, id="no-fraction"),
        pytest.param("2024-05-01T00:00:00.1Z", 1_714_521_600, 10**8, id="1-digit"),
        pytest.param("2024-05-01T00:00:00.000000001Z", 1_714_521_600, 1, id="9-digits"),
        pytest.param("1969-12-31T23:59:59.5Z", -1, 5 * 10**8, id="before-epoch"),
        pytest.param("2024-05-01t00:00:00z", 1_714_521_600, 0, id="lower-case"),
        pytest.param("2024-05-01T02:00:00+02:00", 1_714_521_600, 0, id="east"),
        pytest.param("2024-04-30T18:30:00-05:30", 1_714_521_600, 0, id="west"),
        pytest.param("2024-05-01T00:00:00-00:00", 1_714_521_600, 0, id="unknown-zone"),
        pytest.param("2024-05-01T23:59:00+23:59", 1_714_521_600, 0, id="far-east"),
        pytest.param("2024-02-29T00:00:00Z", 1_709_164_800, 0, id="leap-day"),
        pytest.param("0001-01-01T00:00:00Z", -62_135_596_800, 0, id="first"),
        pytest.param(
            "9999-12-31T23:59:59.999999999Z", 253_402_300_799, 999_999_999, id="last"
        ),
    ],
)
def test_exact_instant_reads_rfc_3339(text: str, seconds: int, nanos: int) -> None:
    """A timestamp is parsed to the nanosecond, with any offset."""
    assert (seconds, nanos) == exact_instant(text)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("2024-05-01T00:00:00", id="no-offset"),
        pytest.param("2024-05-01T00:00:00.1234567890Z", id="10-digits"),
        pytest.param("2024-05-01T00:00:00.Z", id="no-digits"),
        pytest.param("2024-05-01T00:00:00,5Z", id="comma"),
        pytest.param("2024-05-01T23:59:60Z", id="leap-second"),
        pytest.param("2024-05-01T24:00:00Z", id="hour-24"),
        pytest.param("2024-05-01T00:60:00Z", id="minute-60"),
        pytest.param("2024-05-01T00:00:00+24:00", id="offset-24"),
        pytest.param("2024-05-01T00:00:00+01:60", id="offset-minute-60"),
        pytest.param("2024-05-01T00:00:00+0100", id="offset-without-colon"),
        pytest.param("0000-05-01T00:00:00Z", id="year-0"),
        pytest.param("10000-01-01T00:00:00Z", id="year-10000"),
        pytest.param("2023-02-29T00:00:00Z", id="no-leap-day"),
        pytest.param("2024-13-01T00:00:00Z", id="month-13"),
        pytest.param("2024-05-00T00:00:00Z", id="day-0"),
        pytest.param("0001-01-01T00:00:00+00:01", id="before-first"),
        pytest.param("9999-12-31T23:59:59-00:01", id="after-last"),
        pytest.param("2024-05-01", id="date"),
        pytest.param("2024-05-01 00:00:00Z", id="space"),
        pytest.param("2024-05-01T00:00:00Z\n", id="trailing-newline"),
        pytest.param(" 2024-05-01T00:00:00Z", id="leading-space"),
        pytest.param("\u0662\u0660\u0662\u0664-05-01T00:00:00Z", id="arabic-digits"),
        pytest.param("1714521600", id="epoch-seconds"),
    ],
)
def test_exact_instant_refuses_other_texts(text: str) -> None:
    """Text that isn't an instant of a Timestamp raises ValueError."""
    with pytest.raises(ValueError, match=r".+"):
        exact_instant(text)


# So that no offset leads beyond the first or last year.
FIRST, LAST = (datetime.fromisoformat(day) for day in ("0001-01-03", "9999-12-29"))
ZONES = st.integers(-1439, 1439).map(lambda east: timezone(timedelta(minutes=east)))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.datetimes(FIRST, LAST, timezones=ZONES))
def test_exact_instant_agrees_with_the_standard_library(time: datetime) -> None:
    """The instant equals the standard library's, in any zone."""
    since = time - datetime(1970, 1, 1, tzinfo=UTC)
    seconds, rest = divmod(since, timedelta(seconds=1))

    assert (seconds, rest.microseconds * 1000) == exact_instant(time.isoformat())
