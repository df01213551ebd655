"""The types of single settings: addresses, durations, files, names, lists."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainValidator,
    SecretStr,
)
from pydantic_settings import NoDecode

from healthomics_gateway.durations import parse_duration
from healthomics_gateway.net.addresses import (
    Address,
    UnixPath,
    parse_address,
    parse_listen,
)

MAX_WORKERS = 64

_MEMBER = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)?")
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[\x21-\x7e]+")
_RUN_GROUP = re.compile(r"[0-9]{1,18}")
_MODE = re.compile(r"0[0-7]{3}")
_MIN_SECRET = 32  # characters


def within(shortest: str, longest: str) -> AfterValidator:
    """Return a validator that limits a duration to a range, both ends included."""

    def check(duration: timedelta) -> timedelta:
        if not parse_duration(shortest) <= duration <= parse_duration(longest):
            raise ValueError(f"write {shortest} to {longest}")
        return duration

    return AfterValidator(check)


def at_most(number: int) -> BeforeValidator:
    """Return a validator that limits the tables in a list, before it reads them."""
    return BeforeValidator(partial(_at_most, number))


def limit_of(validator: object) -> int | None:
    """Return the number of tables that `at_most` allows; None for other validators."""
    check = validator.func if isinstance(validator, BeforeValidator) else None
    if not (isinstance(check, partial) and check.func is _at_most):
        return None
    number: int = check.args[0]
    return number


def _at_most(number: int, value: Any) -> Any:
    if isinstance(value, list) and len(value) > number:
        raise ValueError(f"write at most {number} tables")
    return value


def words(
    what: str, example: str, of: re.Pattern[str] = re.compile(r"\S+")
) -> BeforeValidator:
    """Return a validator of a list whose items match `of`.

    In the environment the items are separated by commas. Empty items are refused,
    because a value may be missing there.
    """

    def read(value: Any) -> Any:
        found = value.split(",") if isinstance(value, str) else value
        if not isinstance(found, list | frozenset):
            raise ValueError(f"write a list of {what}")  # noqa: TRY004  # pydantic takes ValueError
        if not all(isinstance(each, str) for each in found):
            raise ValueError(f"write {what} as texts in quotes")
        found = [each.strip() for each in found]
        if not all(of.fullmatch(each) for each in found):
            raise ValueError(f"write {what}, such as {example}")
        return found

    return BeforeValidator(read)


def _not_empty(value: Any) -> Any:
    """Refuse an empty list or table, which would not restrict what it seems to."""
    if value in ([], {}):
        raise ValueError("write at least one, or leave it out")
    return value


def _duration(value: Any) -> Any:
    return value if isinstance(value, timedelta) else parse_duration(str(value))


def _file(value: Any) -> Any:
    if isinstance(value, str) and not value.strip():
        raise ValueError("write the path of a file")
    return value


def _text(
    check: Callable[[str], str | None], *, is_optional: bool = False
) -> PlainValidator:
    """Return a validator of text; `check` returns the fault of a text, or None."""

    def read(value: Any) -> str | None:
        if is_optional and value is None:
            return None
        if not isinstance(value, str):
            raise ValueError("write a text in quotes")  # noqa: TRY004  # pydantic takes ValueError
        if not value.strip():
            raise ValueError("write a text")
        if value != value.strip():
            raise ValueError("write it without spaces around it")
        if fault := check(value):
            raise ValueError(fault)
        return value

    return PlainValidator(read)


def _pattern_fault(text: str) -> str | None:
    if "*" in text[:-1]:
        return "write * only at the end; it matches one or more characters"
    return None if text.isprintable() else "write printable characters"


def _role_fault(text: str) -> str | None:
    if _ROLE.fullmatch(text):
        return None
    return "write a role's ARN, such as arn:aws:iam::123456789012:role/omics-read"


def _printable_fault(text: str) -> str | None:
    return None if text.isprintable() else "write printable characters"


def _secret_fault(text: str) -> str | None:
    if len(text) < _MIN_SECRET:
        return (
            f"write at least {_MIN_SECRET} random characters, such as the output of"
            " `openssl rand -hex 32`"
        )
    return _printable_fault(text)


def _hidden(text: str | None) -> SecretStr | None:
    return None if text is None else SecretStr(text)


def _mode_fault(text: str) -> str | None:
    if not _MODE.fullmatch(text):
        return 'write the mode of a file as text, such as "0660"'
    if not int(text, 8) & stat.S_IWUSR:
        # The owner is the gateway, which connects to its own sockets to probe them.
        return 'write a mode with write permission for the owner, such as "0660"'
    return None


def usable_cores() -> int:
    """Return the number of cores that this process may use: its CPU affinity."""
    return len(os.sched_getaffinity(0))


def _workers(value: Any) -> Any:
    """Return the number of cores that this process may use for `auto`."""
    if value == "auto":
        return min(usable_cores(), MAX_WORKERS)
    if isinstance(value, str):
        raise ValueError("write a whole number, or auto")  # noqa: TRY004  # pydantic takes ValueError
    return value


NotEmpty = BeforeValidator(_not_empty)
# Strict in the file; in the environment they are parsed before they are validated.
Switch = Annotated[bool, Field(strict=True)]
Whole = Annotated[int, Field(strict=True)]
Workers = Annotated[
    int, BeforeValidator(_workers), Field(strict=True, ge=1, le=MAX_WORKERS)
]
Number = Annotated[float, Field(strict=True)]
Tcp = Annotated[Address, NoDecode, BeforeValidator(parse_address)]
Listen = Annotated[Address | UnixPath, NoDecode, PlainValidator(parse_listen)]
Mode = Annotated[str, _text(_mode_fault)]
Duration = Annotated[timedelta, BeforeValidator(_duration)]
Members = Annotated[
    frozenset[str], NoDecode, words("AWS's member names", "sessionPolicy", _MEMBER)
]
RunGroups = Annotated[frozenset[str], words("ids of run groups", "1234567", _RUN_GROUP)]
File = Annotated[Path | None, BeforeValidator(_file)]
Text = Annotated[str, _text(_printable_fault)]
MaybeText = Annotated[str | None, _text(_printable_fault, is_optional=True)]
# What isn't shown, except a URL's host; `repr` shows nothing of either.
SecretUrl = Annotated[
    SecretStr | None,
    _text(_printable_fault, is_optional=True),
    AfterValidator(_hidden),
]
Secret = Annotated[
    SecretStr | None, _text(_secret_fault, is_optional=True), AfterValidator(_hidden)
]
Pattern = Annotated[str, _text(_pattern_fault)]
Role = Annotated[str | None, _text(_role_fault, is_optional=True)]
