"""Writes the files of the Helm chart that other files determine.

They are the copies of the alerts and of the dashboard, which a chart must contain to
use them, and the part of `values.schema.json` that describes the gateway's settings.
`make deploy-files` runs this program, and tests/deploy/test_chart_files.py fails if a
file isn't what it writes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Le
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from healthomics_gateway.net.addresses import Address, UnixPath
from healthomics_gateway.settings.schema import Settings
from healthomics_gateway.settings.value_types import NotEmpty, limit_of

DEPLOY = Path(__file__).parent
CHART = DEPLOY / "helm" / "healthomics-gateway"
SCHEMA = CHART / "values.schema.json"
COPIES = {  # by the name in the chart's folder `files`
    "rules.yaml": DEPLOY / "prometheus" / "rules.yaml",
    "dashboard.json": DEPLOY / "grafana" / "dashboard.json",
}

# The schemas of the types of values. The gateway checks more, such as the range of a
# duration, and reports it at its start.
_TEXT = {"type": "string", "minLength": 1}
_OF_TYPE: Mapping[Any, Mapping[str, Any]] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: _TEXT,
    SecretStr: _TEXT,
    Path: _TEXT,
    timedelta: {"type": "string", "pattern": r"^[0-9]{1,12}(\.[0-9]{1,3})?(ms|s|m|h)$"},
    Address: _TEXT,
    UnixPath: _TEXT,
}
# The names of the ports are in the Service, so the chart has to know them.
_ADDRESS = {"type": "string", "pattern": ":[1-9][0-9]{0,4}$"}
_OF_NAME = {"listen": _ADDRESS, "admin_listen": _ADDRESS}


def schema_of(annotation: Any) -> dict[str, Any]:
    """Return the JSON schema of a type; raise KeyError if it isn't known."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _fitting(schema_of(arguments[0]) | _limits(arguments[1:]))
    if origin in (Union, UnionType):
        first = next(each for each in arguments if each is not NoneType)
        return schema_of(first)
    if origin in _OF_ORIGIN:
        return _OF_ORIGIN[origin](*arguments)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return table_schema(annotation)
    return dict(_OF_TYPE[annotation])


_OF_ORIGIN: Mapping[Any, Callable[..., dict[str, Any]]] = {
    Literal: lambda *words: {"enum": list(words)},
    dict: lambda _, values: {
        "type": "object",
        "additionalProperties": schema_of(values),
    },
    frozenset: lambda items: {
        "type": "array",
        "items": schema_of(items),
        "uniqueItems": True,
    },
    tuple: lambda items, _: {"type": "array", "items": schema_of(items)},
}


def table_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return the strict JSON schema of a table of settings."""
    fields = model.model_fields
    table = {
        "type": "object",
        "additionalProperties": False,
        "properties": {name: _field_schema(field) for name, field in fields.items()},
    }
    required = [name for name, field in fields.items() if field.is_required()]
    return table | ({"required": required} if required else {})


def _field_schema(field: FieldInfo) -> dict[str, Any]:
    return _fitting(schema_of(field.annotation) | _limits(field.metadata))


def _fitting(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema without a limit that its type doesn't have."""
    other = {"array": "minProperties", "object": "minItems"}.get(schema.get("type", ""))
    return {name: value for name, value in schema.items() if name != other}


def _limits(metadata: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for each in metadata:
        if isinstance(each, FieldInfo):
            found |= _limits(each.metadata)
        elif each is NotEmpty:
            found |= {"minItems": 1, "minProperties": 1}  # of a list, or of a table
        elif number := limit_of(each):
            found["maxItems"] = number
        elif isinstance(each, Ge):
            found["minimum"] = each.ge
        elif isinstance(each, Le):
            found["maximum"] = each.le
    return found


def with_settings(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of the chart's values, with the gateway's settings."""
    settings = table_schema(Settings)
    settings["properties"] |= _OF_NAME
    settings["required"] = ["listen", "admin_listen", "drain_time"]
    properties = schema["properties"] | {"settings": settings}
    return schema | {"properties": properties}


def files() -> dict[Path, str]:
    """Return the text of each file, by its path."""
    schema = with_settings(json.loads(SCHEMA.read_text()))
    texts = {SCHEMA: json.dumps(schema, indent=2) + "\n"}
    for name, source in COPIES.items():
        texts[CHART / "files" / name] = source.read_text()
    return texts


def main(write: Callable[[Path, str], object] = Path.write_text) -> int:
    """Write the files; return the exit code 0."""
    for path, text in files().items():
        write(path, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
