"""Checks that the files of the settings can be read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from healthomics_gateway.files import FileError, read_regular
from healthomics_gateway.settings.schema import Settings
from healthomics_gateway.settings.sources import leaves


def unreadable_files(settings: Settings, origins: Mapping[str, str]) -> Iterator[str]:
    """Yield a fault for each file that can't be read, named by its setting's origin."""
    values = [(origins.get(name, name), value) for name, value in leaves(settings)]
    for at, table in enumerate(settings.listeners):
        source = origins["listeners"].removeprefix("listeners")  # " in FILE"
        values += [(f"listeners[{at}].{name}{source}", each) for name, each in table]
    for name, value in values:
        if isinstance(value, Path) and (fault := _file_fault(value)):
            yield f"{name}: {fault}"


def is_readable(file: Path) -> bool:
    """Return whether a file can be read, and read again whenever it changes."""
    return _file_fault(file) is None


def _file_fault(file: Path) -> str | None:
    try:
        read_regular(file)
    except FileError as fault:
        return str(fault)
    return None
