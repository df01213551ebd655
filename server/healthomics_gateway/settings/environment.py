"""Reads settings from environment variables, and finds variables that aren't settings.

This module works with any schema.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource

from healthomics_gateway.settings.sources import UNKNOWN, leaves, unknown_fault

PREFIX = "GATEWAY_"
OF_KUBERNETES = re.compile(r"GATEWAY_(SERVICE_|PORT).*")  # a Service named gateway

# The variables that Kubernetes sets for a Service, without its name, and their values.
# https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
_HOST = "_SERVICE_HOST"
_PROTOCOL, _IP, _PORT = "(tcp|udp|sctp)", "[0-9A-Fa-f.:]+", "[0-9]{1,5}"
_EACH_PORT = "_PORT_[0-9]{1,5}_(TCP|UDP|SCTP)"
_OF_SERVICE = re.compile(
    rf"{_HOST}={_IP}"
    rf"|_SERVICE_PORT(_[A-Z0-9_]+)?={_PORT}"
    rf"|(_PORT|{_EACH_PORT})={_PROTOCOL}://({_IP}|\[{_IP}\]):{_PORT}"
    rf"|{_EACH_PORT}(_PROTO={_PROTOCOL}|_PORT={_PORT}|_ADDR={_IP})"
)

_PARSED = {kind: TypeAdapter(kind) for kind in (bool, int, float)}


def variable_of(name: str) -> str:
    """Return the environment variable of a setting."""
    return PREFIX + name.upper().replace(".", "__")


def read_environment(
    schema: type[BaseSettings], environ: Mapping[str, str]
) -> dict[str, Any]:
    """Return the settings in the environment, numbers and booleans parsed."""
    known = _variables(schema)
    source = EnvSettingsSource(schema)
    source.env_vars = {
        name.lower(): value for name, value in environ.items() if name in known
    }
    values = source()
    _parse(values, schema())
    return values


def _parse(values: dict[str, Any], defaults: Any) -> None:
    """Parse the text of each setting that has a number or boolean as its default."""
    for name, value in values.items():
        default = getattr(defaults, name)
        if isinstance(value, dict):
            _parse(value, default)
        elif type(default) in _PARSED:
            with suppress(ValidationError):  # the text is reported as a fault later
                values[name] = _PARSED[type(default)].validate_python(value)


def unknown_variables(
    schema: type[BaseSettings], environ: Mapping[str, str]
) -> list[str]:
    """Return a fault for each variable that looks like a setting but isn't one."""
    known = _variables(schema)
    meant = {_loosely(name): name for name in known}
    others = set(_of_services(environ))
    # The common prefix would make all names similar.
    plain = [each.removeprefix(PREFIX) for each in known]
    return [
        f"{name}: {UNKNOWN}; write {meant[_loosely(name)]}"
        if _loosely(name) in meant
        else f"{name}: {unknown_fault(name.removeprefix(PREFIX), plain, prefix=PREFIX)}"
        for name in sorted(environ)
        if (name.startswith(PREFIX) or name.upper() in known)
        and name not in known
        and name not in others
    ]


def _loosely(name: str) -> str:
    """Return a name that is the same for GATEWAY_LOG__LEVEL and gateway_log_level."""
    return name.upper().replace("__", "_")


def _of_services(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the variables that Kubernetes sets for Services.

    A Service is found by its variable `…_SERVICE_HOST`. Its other variables must start
    with the same name and have the form that Kubernetes documents.
    """
    services = {
        name.removesuffix(_HOST)
        for name, value in environ.items()
        if name.endswith(_HOST) and _OF_SERVICE.fullmatch(f"{_HOST}={value}")
    }
    for name, value in environ.items():
        if OF_KUBERNETES.fullmatch(name) or any(
            _OF_SERVICE.fullmatch(f"{name.removeprefix(service)}={value}")
            for service in services
            if name.startswith(service)
        ):
            yield name


def _variables(schema: type[BaseSettings]) -> set[str]:
    """Return the variables of all settings; only the file can set lists of tables."""
    return {
        variable_of(name)
        for name, value in leaves(schema())
        if type(value) is not tuple
    }
