"""Reads settings from a file, validates each source, and merges the sources.

This module works with any schema. An origin is the text that names the source of a
setting; it is found by the dotted name of the setting (`log.level`).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings

from healthomics_gateway.files import FileError, read_once

UNKNOWN = "there is no such setting"
INVALID = "it isn't valid"  # for types of error that aren't in `_ADVICE`
MAX_KEY_PARTS = 32  # the parser's time and memory grow with the square of the number
SIMILAR = 0.8  # least similarity of a name and a suggestion, 0 to 1

_ADVICE = {  # by pydantic's type of error; {} are pydantic's variables
    "bool_type": "write true or false",
    "dict_type": "write it as a table",
    "extra_forbidden": UNKNOWN,
    "float_type": "write a number",
    "frozen_set_type": 'write a list in brackets, such as ["..."]',
    "greater_than_equal": "write at least {ge}",
    "int_type": "write a whole number",
    "less_than_equal": "write at most {le}",
    "literal_error": "write {expected}",
    "missing": "it is missing",
    "model_type": "write it as a table: [{name}]",
    "path_type": "write the path of a file",
    "string_type": "write a text in quotes",
    "string_unicode": "write it in UTF-8",
    "tuple_type": "write it as a list of tables, each below [[{name}]]",
    "value_error": "{error}",
}
# A string (group 1), or a comment. One that doesn't end is a fault, which the parser
# finds. Nothing is read twice, so that the time grows only with the length.
_TEXT = re.compile(
    r"""
    (
        "{3} (?: [^"\\] | \\. | "(?!"") )*+ (?:"{3})?
      | '{3} (?: [^'] | '(?!'') )*+ (?:'{3})?
      | " (?: [^"\\\n] | \\[^\n] )*+ "?
      | ' [^'\n]*+ '?
    )
    | \#[^\n]*+
    """,
    re.DOTALL | re.VERBOSE,
)
_LONG_KEY = re.compile(
    rf"(?<![\w-])[\w-]++(?:[ \t]*+\.[ \t]*+[\w-]++){{{MAX_KEY_PARTS}}}", re.ASCII
)
_UNQUOTED: dict[str, TypeAdapter[Any]] = {  # by the type of error that a text causes
    "bool_type": TypeAdapter(bool),
    "float_type": TypeAdapter(float),
    "int_type": TypeAdapter(int),
}


def leaves(
    values: Mapping[str, Any] | BaseModel, prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """Yield the dotted name and the value of each setting."""
    for name, value in dict(values).items():
        if isinstance(value, Mapping | BaseModel):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def read_file(file: Path | None) -> tuple[bytes, list[str]]:
    """Return the content of a file of settings, and the faults of reading it.

    The file is read only once, so that it can be a pipe (`--config <(...)`).
    """
    if file is None:
        return b"", []
    try:
        return read_once(file), []
    except OSError as error:
        return b"", [f"--config {file}: {error.strerror}"]
    except FileError as fault:
        return b"", [f"--config {file}: {fault}"]


def parse_file(file: Path | None, content: bytes) -> tuple[dict[str, Any], list[str]]:
    """Return the settings in the content of a TOML file, and the faults of it."""
    try:
        # Some editors write a byte order mark.
        text = content.decode("utf-8-sig")
        if _has_long_key(text):
            fault = f"a key has more than {MAX_KEY_PARTS} parts"
            return {}, [f"--config {file}: it is nested too deeply: {fault}"]
        values = tomllib.loads(text)
        # This raises RecursionError if the values are nested too deeply.
        list(leaves(values))
    except ValueError as error:
        return {}, [f"--config {file}: it isn't TOML: {error}"]
    except RecursionError:
        return {}, [f"--config {file}: it is nested too deeply"]
    return values, []


def _has_long_key(toml: str) -> bool:
    """Return whether a key or the name of a table has more than MAX_KEY_PARTS parts."""
    bare = _TEXT.sub(lambda found: "s" if found[1] else "", toml)
    return _LONG_KEY.search(bare) is not None


def merge(into: dict[str, Any], source: Mapping[str, Any]) -> None:
    """Override settings in `into`, one by one, by those of `source`."""
    for name, value in source.items():
        inner = into.get(name)
        if isinstance(inner, dict) and isinstance(value, Mapping):
            merge(inner, value)
        else:
            into[name] = dict(value) if isinstance(value, Mapping) else value


def remove_invalid(
    schema: type[BaseSettings], values: dict[str, Any], origin: Callable[[str], str]
) -> list[str]:
    """Remove the invalid settings from a source; return a fault for each."""
    # pydantic would accept names of its own parameters, such as _env_file.
    unknown = [name for name in values if name not in schema.model_fields]
    for name in unknown:
        del values[name]
    known = list(names_in(schema))
    faults = [f"{origin(name)}: {unknown_fault(name, known)}" for name in unknown]
    try:
        schema(**values)
    except ValidationError as error:
        for each in error.errors():
            path = [str(part) for part in each["loc"]]
            name = _name(each["loc"])
            is_unknown = each["type"] == "extra_forbidden"
            fault = unknown_fault(name, known) if is_unknown else _advice(each)
            faults.append(f"{origin(name)}: {fault}")
            _remove(values, path)
        return faults + remove_invalid(schema, values, origin)
    return faults


def names_in(schema: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield the dotted name of each setting, each table, and each key of a table."""
    for name, field in schema.model_fields.items():
        yield f"{prefix}{name}"
        if table := _table_in(field.annotation):
            yield from names_in(table, f"{prefix}{name}.")


def _table_in(annotation: Any) -> type[BaseModel] | None:
    """Return the model of a table, or of the tables in a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_table_in, get_args(annotation))), None)


def unknown_fault(name: str, known: Iterable[str], *, prefix: str = "") -> str:
    """Return the fault of an unknown name; `prefix` goes before a suggestion."""
    plain = re.sub(r"\[\d+\]", "", name)
    near = get_close_matches(plain, known, n=1, cutoff=SIMILAR)
    return f"{UNKNOWN}; did you mean {prefix}{near[0]}?" if near else UNKNOWN


def _name(path: tuple[int | str, ...]) -> str:
    """Return the name of a setting (`callers[0].methods`); an item has its list's."""
    name = ""
    for at, part in enumerate(path):
        if isinstance(part, str):
            name += f".{part}" if at else part
        elif at + 1 < len(path):
            name += f"[{part}]"
    return name


def _remove(values: dict[str, Any], path: list[str]) -> None:
    *outer, last = path
    for name in outer:
        if not isinstance(values.get(name), dict):
            values.pop(name, None)
            return
        values = values[name]
    values.pop(last, None)


def _advice(error: ErrorDetails) -> str:
    """Return what to write instead, without the value, which may be a secret."""
    kind, written = error["type"], error["input"]
    name = _name(error["loc"])
    variables = {"name": name, **error.get("ctx", {})}
    words = _ADVICE.get(kind, INVALID).format_map(variables)
    if isinstance(written, str) and not written.strip():
        return f"it is empty; unset it, or {words}"
    if kind in _UNQUOTED and _is_quoted(written, _UNQUOTED[kind]):
        return f"{words}, without quotes"
    if kind == "model_type" and isinstance(error["loc"][-1], int):
        return _ADVICE["tuple_type"].format(name=name)
    if kind == "tuple_type" and isinstance(written, dict):
        return f"{words} instead of [{name}]"
    return words


def _is_quoted(written: Any, adapter: TypeAdapter[Any]) -> bool:
    """Return whether a value is a text that would be valid without quotes."""
    try:
        return isinstance(written, str) and adapter.validate_python(written) is not None
    except ValidationError:
        return False
