"""Loads the settings once, from flags, environment, file and defaults.

All faults are reported together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from healthomics_gateway.configuration_error import ConfigurationError
from healthomics_gateway.settings.checks import faults_of
from healthomics_gateway.settings.environment import (
    read_environment,
    unknown_variables,
    variable_of,
)
from healthomics_gateway.settings.listener_checks import certificate_faults
from healthomics_gateway.settings.listener_settings import listeners_of
from healthomics_gateway.settings.schema import Settings
from healthomics_gateway.settings.sources import (
    leaves,
    merge,
    parse_file,
    read_file,
    remove_invalid,
)


class SettingsError(ConfigurationError):
    """The settings are invalid."""

    def __init__(self, *faults: str, loaded: Loaded | None = None) -> None:
        """Create an error; `loaded` is None if the file couldn't be read."""
        super().__init__(*faults)
        self.loaded = loaded


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings, and the origin of each that isn't a default."""

    settings: Settings
    origins: Mapping[str, str]  # by dotted name
    content: bytes = b""  # of the file


def load(
    *,
    flags: Mapping[str, Any],
    environ: Mapping[str, str],
    config_file: Path | None = None,
    content: bytes | None = None,
    reads_certificates: bool = True,
) -> Loaded:
    """Return the settings from all sources; raise SettingsError with all faults.

    `flags` are by name of the setting, None if a flag wasn't given. `content` is that
    of the file, if it has been read already. Without `reads_certificates`, the faults
    in the files of certificates are left out.
    """
    faults: list[str] = []
    if content is None:
        content, faults = read_file(config_file)
    in_file, of_content = parse_file(config_file, content)
    faults += of_content
    is_file_read = not faults
    in_flags = {name: value for name, value in flags.items() if value is not None}
    sources = (  # in ascending priority
        (in_file, lambda name: f"{name} in {config_file}"),
        (read_environment(Settings, environ), variable_of),
        (in_flags, lambda name: "--" + name.replace("_", "-")),
    )
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    refused: set[str] = set()  # names with an invalid value in their last source
    for source, origin in sources:
        given = {name: origin(name) for name, _ in leaves(source)}
        faults += remove_invalid(Settings, source, origin)
        merge(merged, source)
        valid = {name: given[name] for name, _ in leaves(source)}
        invalid = {name: f"default, {given[name]} is refused" for name in given}
        origins = invalid | origins | valid
        refused = (refused | given.keys()) - valid.keys()
    settings = _with_deadlines(Settings(**merged), origins)
    faults += unknown_variables(Settings, environ)
    faults += faults_of(settings, origins, refused)
    if reads_certificates:
        faults += certificate_faults(listeners_of(settings))
    loaded = Loaded(settings, origins, content)
    if faults:
        raise SettingsError(*faults, loaded=loaded if is_file_read else None)
    return loaded


def _with_deadlines(settings: Settings, origins: Mapping[str, str]) -> Settings:
    """Derive a deadline that isn't set from the other one."""
    default, longest = settings.default_deadline, settings.max_deadline
    if "max_deadline" not in origins:
        return settings.model_copy(update={"max_deadline": max(default, longest)})
    if "default_deadline" not in origins:
        return settings.model_copy(update={"default_deadline": min(default, longest)})
    return settings
