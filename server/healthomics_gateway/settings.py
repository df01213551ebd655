"""What an operator can set: read once, from flags, environment, file and defaults.

A fault never hides another: all of them are told together.
"""

from __future__ import annotations

import ipaddress
import re
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from healthomics_gateway.durations import duration_text, parse_duration
from healthomics_gateway.sources import (
    leaves,
    merge,
    read_environment,
    read_file,
    take_faults,
    unknown_variables,
    variable_of,
)

_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")
_MEMBER = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)?")
_MAX_PORT = 65_535
_SCHEMES = {"dns", "ipv4", "ipv6", "unix", "unix-abstract", "vsock"}  # of gRPC


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
    return value if isinstance(value, timedelta) else parse_duration(str(value))


def _within(shortest: str, longest: str) -> AfterValidator:
    def check(duration: timedelta) -> timedelta:
        if not parse_duration(shortest) <= duration <= parse_duration(longest):
            raise ValueError(f"write {shortest} to {longest}")
        return duration

    return AfterValidator(check)


def parse_address(value: Any) -> Address:
    """Read `127.0.0.1:50051` or `[::1]:50051`; raise ValueError where it is none."""
    match = _ADDRESS.fullmatch(str(value))
    if not match or match[1] in _SCHEMES or int(match[2]) > _MAX_PORT:
        raise ValueError("write an address like 127.0.0.1:50051 or [::1]:50051")
    return Address(match[1], int(match[2]))


def _members(value: Any) -> Any:
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list | frozenset):
        raise ValueError("write a list of AWS's member names")  # noqa: TRY004  # pydantic takes ValueError
    names = [str(each).strip() for each in names if each != ""]
    if not all(_MEMBER.fullmatch(each) for each in names):
        raise ValueError("write AWS's member names, such as sessionPolicy")
    return names


def _file(value: Any) -> Any:
    return None if value == "" else value


Listen = Annotated[Address, NoDecode, BeforeValidator(parse_address)]
Duration = Annotated[timedelta, BeforeValidator(_duration)]
Members = Annotated[frozenset[str], NoDecode, BeforeValidator(_members)]
File = Annotated[Path | None, BeforeValidator(_file)]  # set as empty, there is none


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

    attempt_timeout: Annotated[Duration, _within("100ms", "2m")] = timedelta(seconds=10)
    connect_timeout: Annotated[Duration, _within("100ms", "2m")] = timedelta(seconds=3)
    max_attempts: Annotated[int, Field(ge=1, le=3)] = 3
    max_concurrent: Annotated[int, Field(ge=1, le=1024)] = 64
    max_body_bytes: Annotated[int, Field(ge=1024, le=16_777_216)] = 1_048_576


class Quota(_Section):
    """How much of the account's quota is used."""

    tps: Annotated[float, Field(ge=0.5, le=10_000)] = 8.0
    burst: Annotated[float, Field(ge=1, le=10_000)] = 2.0


class Cache(_Section):
    """What is remembered, and for whom."""

    max_staleness: Annotated[Duration, _within("0s", "1h")] = timedelta(0)
    max_staleness_limit: Annotated[Duration, _within("0s", "1h")] = timedelta(minutes=1)
    max_bytes: Annotated[int, Field(ge=0, le=1_073_741_824)] = 67_108_864


class Watch(_Section):
    """How runs are watched."""

    interval: Annotated[Duration, _within("10ms", "1h")] = timedelta(seconds=5)
    min_interval: Annotated[Duration, _within("10ms", "1h")] = timedelta(seconds=1)
    max_stream: Annotated[Duration, _within("100ms", "1h")] = timedelta(minutes=10)
    quota_share: Annotated[float, Field(ge=0.01, le=1)] = 0.5
    max_open: Annotated[int, Field(ge=1, le=100_000)] = 10_000


class Tls(_Section):
    """Who can listen in."""

    cert_file: File = None
    key_file: File = None
    insecure: bool = False


class Settings(BaseSettings):
    """All of them, valid."""

    model_config = SettingsConfigDict(
        env_prefix="GATEWAY_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    listen: Listen = Address("127.0.0.1", 50051)
    admin_listen: Listen = Address("127.0.0.1", 9464)
    default_deadline: Annotated[Duration, _within("100ms", "1h")] = timedelta(
        seconds=30
    )
    drain_time: Annotated[Duration, _within("0s", "10m")] = timedelta(seconds=25)
    max_in_flight: Annotated[int, Field(ge=1, le=65_536)] = 8192
    withhold: Members = frozenset()
    log: Log = Log()
    errors: Errors = Errors()
    upstream: Upstream = Upstream()
    quota: Quota = Quota()
    cache: Cache = Cache()
    watch: Watch = Watch()
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
    in_file, faults = read_file(config_file)
    given = {name: value for name, value in flags.items() if value is not None}
    sources = (  # each before those that override it
        (in_file, lambda name: f"{name} in {config_file}"),
        (read_environment(Settings, environ), variable_of),
        (given, lambda name: "--" + name.replace("_", "-")),
    )
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for source, origin in sources:
        faults += take_faults(Settings, source, origin)
        merge(merged, source)
        origins |= {name: origin(name) for name, _ in leaves(source)}
    settings = Settings(**merged)
    faults += unknown_variables(Settings, environ)
    faults += _disagreements(settings, origins)
    if faults:
        raise SettingsError(*faults)
    return Loaded(settings, origins)


def rows(loaded: Loaded) -> Iterator[tuple[str, str, str]]:
    """Give each setting's name, its value as one would set it, and its origin."""
    for name, value in leaves(loaded.settings):
        yield name, _written(value), loaded.origins.get(name, "default")


def _written(value: Any) -> str:
    if isinstance(value, timedelta):
        return duration_text(value)
    if isinstance(value, frozenset):
        return ",".join(sorted(value))
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return "" if value is None else str(value)


def _disagreements(settings: Settings, origins: Mapping[str, str]) -> Iterator[str]:
    """Check what concerns more than one setting, or the machine."""
    tls = settings.tls
    files = {"tls.cert_file": tls.cert_file, "tls.key_file": tls.key_file}
    unreadable = [
        # The path isn't told: it may be a key that was pasted instead.
        f"{origins[name]}: no file of this path can be read"
        for name, file in files.items()
        if file and not _is_readable(file)
    ]
    yield from unreadable
    if bool(tls.cert_file) != bool(tls.key_file):
        yield "tls.cert_file and tls.key_file: set both or neither"
    elif tls.cert_file and not unreadable and not _is_pair(tls):
        yield "tls.cert_file and tls.key_file: not a certificate and its key, in PEM"
    if not (settings.listen.is_loopback or tls.cert_file or tls.insecure):
        yield (
            f"listen {settings.listen}: others can reach this address, so set"
            " tls.cert_file and tls.key_file (GATEWAY_TLS__CERT_FILE,"
            " GATEWAY_TLS__KEY_FILE), or tls.insecure = true"
            " (GATEWAY_TLS__INSECURE=true) to serve it in plaintext"
        )
    upstream, cache = settings.upstream, settings.cache
    for name, duration, most_name, most in (
        (
            "upstream.connect_timeout",
            upstream.connect_timeout,
            "upstream.attempt_timeout",
            upstream.attempt_timeout,
        ),
        (
            "cache.max_staleness",
            cache.max_staleness,
            "cache.max_staleness_limit",
            cache.max_staleness_limit,
        ),
    ):
        if duration > most:
            yield (
                f"{name} {duration_text(duration)}: write at most {most_name},"
                f" {duration_text(most)}"
            )


def _is_readable(file: Path) -> bool:
    try:
        file.open("rb").close()
    except (OSError, ValueError):  # ValueError where the path holds a NUL
        return False
    return True


def _is_pair(tls: Tls) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # Without a password, a key that needs one would ask for it at the terminal.
        context.load_cert_chain(str(tls.cert_file), str(tls.key_file), password="")
    except OSError:
        return False
    return True
