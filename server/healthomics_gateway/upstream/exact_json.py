"""Parses JSON without loss: exact numbers, duplicate names, and each member's text.

An object is parsed to a tuple of (name, value) pairs, an array to a list and a number
to a `Number`; other values are parsed as the standard library parses them.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, NoReturn

MAX_LEVELS = 500  # of nesting, the outermost object counted
MAX_VALUES = 131_072  # in a text; an empty object or array counts twice
SAFE_INT32_DIGITS = 9
SAFE_DIGITS = 15  # a double represents every decimal with this many digits

# Parsing timestamps is a fifth of a translation, and the times of a run that is polled
# stay the same.
CACHED_INSTANTS = 4096

EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  # local to the timestamp that is parsed
MIN_INSTANT = -62_135_596_800  # 0001-01-01T00:00:00Z
MAX_INSTANT = 253_402_300_799  # 9999-12-31T23:59:59Z

_SPACE = re.compile(r"[ \t\n\r]*")
_RFC_3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}[Tt](?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9])"
    r"(?:\.([0-9]{1,9}))?(?:[Zz]|([+-](?:[01][0-9]|2[0-3]):[0-5][0-9]))"
)


class TooManyValuesError(ValueError):
    """The text holds more than MAX_VALUES values; parsing them would take too long."""


class Number(str):
    """The text of a JSON number."""

    __slots__ = ()


def _refuse(constant: str) -> NoReturn:
    msg = f"{constant} isn't JSON"
    raise ValueError(msg)


_DECODER = json.JSONDecoder(
    parse_int=Number,
    parse_float=Number,
    parse_constant=_refuse,
    object_pairs_hook=tuple,
)


def parse_object(text: str) -> tuple[tuple[str, Any], ...]:
    """Return the members of the JSON object in `text`.

    Raises TooManyValuesError if it has more than MAX_VALUES values, before any is
    parsed, and ValueError if it isn't a JSON object, is nested deeper than MAX_LEVELS
    or is followed by other text.
    """
    _check_values(text)
    try:
        value = _DECODER.decode(text)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if type(value) is not tuple:
        raise ValueError("not an object")
    if text.count("{") + text.count("[") > MAX_LEVELS:
        _check_levels(value)
    return value


def _check_values(text: str) -> None:
    if _marks(text) > MAX_VALUES:  # rare: count again without the marks in strings
        unescaped = text.replace(r"\\", "").replace(r"\"", "")
        if _marks("".join(unescaped.split('"')[::2])) > MAX_VALUES:
            raise TooManyValuesError("too many values")


def _marks(text: str) -> int:
    """Return the number of commas and opening brackets: each precedes a value."""
    return text.count(",") + text.count("{") + text.count("[")


def _check_levels(value: Any) -> None:
    level = [value]
    for _ in range(MAX_LEVELS):
        level = [inner for outer in level for inner in _containers(outer)]
    if level:
        raise ValueError("nested too deep")


def _containers(value: Any) -> list[Any]:
    values = value if type(value) is list else [each for _, each in value]
    return [each for each in values if type(each) in (list, tuple)]


def member_spans(text: str, start: int = 0) -> dict[str, tuple[int, int]]:
    """Return where the value of each member of the object at `start` begins and ends.

    `text` must be valid JSON. The last of several members with one name wins.
    """
    spans = {}
    at = _after_space(text, _after_space(text, start) + 1)
    while text[at] != "}":
        name, at = _DECODER.raw_decode(text, at)
        at = _after_space(text, _after_space(text, at) + 1)
        begin, (_, at) = at, _DECODER.raw_decode(text, at)
        spans[name] = (begin, at)
        at = _after_space(text, at)
        if text[at] == ",":
            at = _after_space(text, at + 1)
    return spans


def _after_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def exact_int32(number: Number) -> int:
    """Return the number as an integer; raise ValueError if it isn't one of 32 bits."""
    if len(number) <= SAFE_INT32_DIGITS and number.isdigit():
        return int(number)
    value = _decimal(number)
    if not -(2**31) <= value < 2**31 or int(value) != value:
        raise ValueError("not an integer of 32 bits")
    return int(value)


def exact_double(number: Number) -> float:
    """Return the double that represents the number exactly, or raise ValueError.

    The representation is exact if the shortest decimal that is parsed to the double
    has the same value as the number.
    """
    value = float(number)
    if len(number) <= SAFE_DIGITS and "e" not in number and "E" not in number:
        return value
    if _decimal(repr(value)) != _decimal(number):
        raise ValueError("no double represents it exactly")
    return value


@lru_cache(maxsize=CACHED_INSTANTS)
def exact_instant(text: str) -> tuple[int, int]:
    """Return the seconds since the Unix epoch and the nanoseconds of an RFC 3339 time.

    Raises ValueError if `google.protobuf.Timestamp` can't represent it.
    """
    match = _RFC_3339.fullmatch(text)
    if not match:
        raise ValueError("not a timestamp")
    moment, fraction, offset = match.groups()
    since = datetime.fromisoformat(moment) - EPOCH
    seconds = since.days * 86400 + since.seconds
    if offset:
        east = int(offset[1:3]) * 3600 + int(offset[4:]) * 60
        seconds -= east if offset[0] == "+" else -east
    if not MIN_INSTANT <= seconds <= MAX_INSTANT:
        raise ValueError("out of a timestamp's range")
    return seconds, int((fraction or "").ljust(9, "0"))


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:  # the exponent has more than 18 digits
        if not text.lower().partition("e")[0].strip("-0."):
            return Decimal(0)  # zero with any exponent
        raise ValueError("out of range") from None
