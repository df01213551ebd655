"""What an operator can set: read once, from flags, environment, file and defaults.

A fault never hides another: all of them are told together.
"""

from __future__ import annotations

import ipaddress
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    SettingsConfigDict,
)

from healthomics_gateway.durations import duration_text

PREFIX = "GATEWAY_"
OF_KUBERNETES = re.compile(r"GATEWAY_(SERVICE_|PORT).*")  # a Service named gateway

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")
_MEMBER = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)?")
_MAX_PORT = 65_535


class SettingsError(Exception):
    """The settings can't be used; `args` are the faults, a sentence each."""


class Address(NamedTuple):
    """Where to listen. Port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        """Write it as it is set."""
        return f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return self.host == "localhost"


def _duration(value: Any) -> Any:
    if isinstance(value, timedelta):
        return value
    match = _DURATION.fullmatch(str(value))
    if not match:
        raise ValueError("write a duration like 250ms, 5s or 2m")
    return timedelta(seconds=float(match[1]) * _UNITS[match[2]])


def _address(value: Any) -> Any:
    match = _ADDRESS.fullmatch(str(value))
    if not match or int(match[2]) > _MAX_PORT:
        raise ValueError("write an address like 127.0.0.1:50051 or [::1]:50051")
    return Address(match[1], int(match[2]))


def _members(value: Any) -> Any:
    names = value.split(",") if isinstance(value, str) else value
    names = [
        each.strip() for each in names if not isinstance(each, str) or each.strip()
    ]
    if not all(_MEMBER.fullmatch(each) for each in names):
        raise ValueError("write AWS's member names, such as sessionPolicy")
    return names


Listen = Annotated[Address, NoDecode, BeforeValidator(_address)]
Duration = Annotated[timedelta, BeforeValidator(_duration)]
Members = Annotated[frozenset[str], NoDecode, BeforeValidator(_members)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Log(_Section):
    """How it logs."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "text"] = "auto"


class Errors(_Section):
    """What errors tell."""

    debug: bool = False


class Upstream(_Section):
    """How HealthOmics is asked."""

    attempt_timeout: Annotated[
        Duration, Field(ge=timedelta(milliseconds=100), le=timedelta(minutes=2))
    ] = timedelta(seconds=10)
    connect_timeout: Annotated[
        Duration, Field(ge=timedelta(milliseconds=100), le=timedelta(minutes=2))
    ] = timedelta(seconds=3)
    max_attempts: Annotated[int, Field(ge=1, le=3)] = 3
    max_concurrent: Annotated[int, Field(ge=1, le=1024)] = 64
    max_body_bytes: Annotated[int, Field(ge=65_536, le=16_777_216)] = 1_048_576


class Tls(_Section):
    """Who can listen in."""

    cert_file: Path | None = None
    key_file: Path | None = None
    insecure: bool = False


class Settings(BaseSettings):
    """All of them, valid."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True
    )

    listen: Listen = Address("127.0.0.1", 50051)
    admin_listen: Listen = Address("127.0.0.1", 9464)
    default_deadline: Annotated[
        Duration, Field(ge=timedelta(milliseconds=100), le=timedelta(hours=1))
    ] = timedelta(seconds=30)
    drain_time: Annotated[Duration, Field(le=timedelta(minutes=10))] = timedelta(
        seconds=25
    )
    withhold: Members = frozenset()
    log: Log = Log()
    errors: Errors = Errors()
    upstream: Upstream = Upstream()
    tls: Tls = Tls()

    @classmethod
    def settings_customise_sources(cls, *_args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Take only what `load` hands in: it has read every source."""
        return (kwargs["init_settings"],)


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings, and where each that isn't a default came from."""

    settings: Settings
    origins: Mapping[str, str]  # by dotted name


def load(
    *,
    flags: Mapping[str, Any],
    environ: Mapping[str, str],
    config_file: Path | None = None,
) -> Loaded:
    """Read every source; raise SettingsError with all faults.

    `flags` are by setting's name, None where a flag wasn't given.
    """
    faults = [
        f"{name}: there is no such setting" for name in _unknown_variables(environ)
    ]
    in_file, file_fault = _read_file(config_file)
    if file_fault:
        faults.append(file_fault)
    given = {name: value for name, value in flags.items() if value is not None}
    sources = (
        (in_file, lambda name: f"{name} in {config_file}"),
        (_read_environment(environ), variable_of),
        (given, lambda name: "--" + name.replace("_", "-")),
    )
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for source, origin in sources:
        _merge(merged, source)
        origins |= {name: origin(name) for name, _ in leaves(source)}
    settings, invalid = _validated(merged, origins)
    faults += [*invalid, *_disagreements(settings)]
    if faults:
        raise SettingsError(*faults)
    return Loaded(settings, origins)


def rows(loaded: Loaded) -> Iterator[tuple[str, str, str]]:
    """Give each setting's name, its value as one would set it, and its origin."""
    for name, value in leaves(dict(loaded.settings)):
        yield name, _written(value), loaded.origins.get(name, "default")


def _written(value: Any) -> str:
    if isinstance(value, timedelta):
        return duration_text(value)
    if isinstance(value, frozenset):
        return ",".join(sorted(value)) or "none"
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else str(value)


def leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Give each setting by its dotted name."""
    for name, value in values.items():
        if isinstance(value, Mapping | _Section):
            yield from leaves(dict(value), f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def variable_of(name: str) -> str:
    """Give the environment variable of a setting."""
    return PREFIX + name.upper().replace(".", "__")


def _variables() -> set[str]:
    return {variable_of(name) for name, _ in leaves(dict(Settings()))}


def _read_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    known = _variables()
    source = EnvSettingsSource(Settings)
    source.env_vars = {
        name.lower(): value for name, value in environ.items() if name in known
    }
    return source()


def _unknown_variables(environ: Mapping[str, str]) -> list[str]:
    known = _variables()
    return [
        name
        for name in sorted(environ)
        if name.startswith(PREFIX)
        and name not in known
        and not OF_KUBERNETES.fullmatch(name)
    ]


def _read_file(file: Path | None) -> tuple[dict[str, Any], str | None]:
    if file is None:
        return {}, None
    try:
        return tomllib.loads(file.read_text(encoding="utf-8")), None
    except OSError as error:
        return {}, f"--config {file}: {error.strerror}"
    except ValueError as error:
        return {}, f"--config {file}: it isn't TOML: {error}"


def _merge(into: dict[str, Any], source: Mapping[str, Any]) -> None:
    for name, value in source.items():
        inner = into.get(name)
        if isinstance(inner, dict) and isinstance(value, Mapping):
            _merge(inner, value)
        else:
            into[name] = dict(value) if isinstance(value, Mapping) else value


def _validated(
    merged: dict[str, Any], origins: Mapping[str, str]
) -> tuple[Settings, list[str]]:
    """Give the settings, with the default in place of each that isn't valid."""
    try:
        return Settings(**merged), []
    except ValidationError as error:
        faults = []
        for each in error.errors():
            path = [str(part) for part in each["loc"]]
            name = ".".join(path)
            is_unknown = each["type"] == "extra_forbidden"
            text = "there is no such setting" if is_unknown else each["msg"]
            faults.append(f"{origins.get(name, name)}: {_lower(text)}")
            _remove(merged, path)
        settings, more = _validated(merged, origins)
        return settings, faults + more


def _remove(values: dict[str, Any], path: list[str]) -> None:
    *outer, last = path
    for name in outer:
        if not isinstance(values.get(name), dict):
            values.pop(name, None)
            return
        values = values[name]
    values.pop(last, None)


def _lower(text: str) -> str:
    text = text.removeprefix("Value error, ")
    return text[:1].lower() + text[1:]


def _disagreements(settings: Settings) -> Iterator[str]:
    """Check what concerns more than one setting, or the machine."""
    tls = settings.tls
    if bool(tls.cert_file) != bool(tls.key_file):
        yield "tls.cert_file and tls.key_file: set both or neither"
    for name, file in (("cert_file", tls.cert_file), ("key_file", tls.key_file)):
        if file and not file.is_file():
            yield f"tls.{name}: there is no file {file}"
    if not (settings.listen.is_loopback or tls.cert_file or tls.insecure):
        yield (
            f"listen {settings.listen}: others can reach this address, so set"
            " tls.cert_file and tls.key_file (GATEWAY_TLS__CERT_FILE,"
            " GATEWAY_TLS__KEY_FILE), or tls.insecure = true"
            " (GATEWAY_TLS__INSECURE=true) to serve it in plaintext"
        )
    if settings.upstream.connect_timeout > settings.upstream.attempt_timeout:
        yield "upstream.connect_timeout: it exceeds upstream.attempt_timeout"
