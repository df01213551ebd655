"""Where settings come from: a file and the environment, read, checked and merged.

No setting is known here by name: the schema is handed in. An origin tells where the
setting of a dotted name (`log.level`) came from.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, EnvSettingsSource

PREFIX = "GATEWAY_"
OF_KUBERNETES = re.compile(r"GATEWAY_(SERVICE_|PORT).*")  # a Service named gateway
UNKNOWN = "there is no such setting"

_WORDS = {  # by pydantic's type of error, with pydantic's own variables
    "dict_type": "write it as a table",
    "string_type": "write a text",
    "too_short": "write at least one",
    "bool_parsing": "write true or false",
    "bool_type": "write true or false",
    "extra_forbidden": UNKNOWN,
    "finite_number": "write a whole number",
    "greater_than_equal": "write at least {ge}",
    "int_from_float": "write a whole number",
    "int_parsing": "write a whole number",
    "int_parsing_size": "write a smaller number",
    "int_type": "write a whole number",
    "less_than_equal": "write at most {le}",
    "literal_error": "write {expected}",
    "model_type": "write it as a table",
    "path_type": "write the path of a file",
    "value_error": "{error}",
}


def variable_of(name: str) -> str:
    """Give the environment variable of a setting."""
    return PREFIX + name.upper().replace(".", "__")


def leaves(
    values: Mapping[str, Any] | BaseModel, prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """Give each setting by its dotted name."""
    for name, value in dict(values).items():
        if isinstance(value, Mapping | BaseModel):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def read_file(file: Path | None) -> tuple[dict[str, Any], list[str]]:
    """Give what a TOML file sets, and what is wrong with the file."""
    if file is None:
        return {}, []
    try:
        return tomllib.loads(file.read_text(encoding="utf-8")), []
    except OSError as error:
        return {}, [f"--config {file}: {error.strerror}"]
    except ValueError as error:
        return {}, [f"--config {file}: it isn't TOML: {error}"]
    except RecursionError:
        return {}, [f"--config {file}: it is nested too deeply"]


def read_environment(
    schema: type[BaseSettings], environ: Mapping[str, str]
) -> dict[str, Any]:
    """Give what the environment sets."""
    known = _variables(schema)
    source = EnvSettingsSource(schema)
    source.env_vars = {
        name.lower(): value for name, value in environ.items() if name in known
    }
    return source()


def unknown_variables(
    schema: type[BaseSettings], environ: Mapping[str, str]
) -> list[str]:
    """Tell of each variable that looks like a setting and is none."""
    known = _variables(schema)
    return [
        f"{name}: {UNKNOWN}"
        for name in sorted(environ)
        if name.startswith(PREFIX)
        and name not in known
        and not OF_KUBERNETES.fullmatch(name)
    ]


def _variables(schema: type[BaseSettings]) -> set[str]:
    """Give the variables there are; a list of tables is for the file alone."""
    return {
        variable_of(name)
        for name, value in leaves(schema())
        if type(value) is not tuple
    }


def merge(into: dict[str, Any], source: Mapping[str, Any]) -> None:
    """Let a source override, setting by setting, what was read before it."""
    for name, value in source.items():
        inner = into.get(name)
        if isinstance(inner, dict) and isinstance(value, Mapping):
            merge(inner, value)
        else:
            into[name] = dict(value) if isinstance(value, Mapping) else value


def take_faults(
    schema: type[BaseSettings], values: dict[str, Any], origin: Callable[[str], str]
) -> list[str]:
    """Take out of a source what the schema doesn't accept, and tell what it was."""
    # A name of pydantic's own, such as _env_file, would be obeyed.
    unknown = [name for name in values if name not in schema.model_fields]
    for name in unknown:
        del values[name]
    faults = [f"{origin(name)}: {UNKNOWN}" for name in unknown]
    try:
        schema(**values)
    except ValidationError as error:
        for each in error.errors():
            path = [str(part) for part in each["loc"]]
            faults.append(f"{origin(_name(each['loc']))}: {_told(each)}")
            _remove(values, path)
        return faults + take_faults(schema, values, origin)
    return faults


def _name(path: tuple[int | str, ...]) -> str:
    """Name a setting: `callers[0].methods`, an entry of a list of words by its list."""
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


def _told(error: ErrorDetails) -> str:
    """Say what to write instead; what was written may be a secret."""
    words = _WORDS.get(error["type"], "write something else")
    return words.format_map(error.get("ctx", {}))
