"""Reads the gateway's settings and those of AWS."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path

from healthomics_gateway.app.file_limit import files_fault
from healthomics_gateway.app.reload import ConfigFile
from healthomics_gateway.configuration_error import ConfigurationError
from healthomics_gateway.settings.load import Loaded, SettingsError, load
from healthomics_gateway.settings.schema import Settings
from healthomics_gateway.upstream.config import Aws, discover
from healthomics_gateway.upstream.endpoints import AwsSettingsError


def checked(options: Namespace, *, with_aws: bool) -> tuple[Loaded, Aws | None]:
    """Return the gateway's settings and AWS's.

    Raises ConfigurationError with all faults. A limit on open files that is too low
    is a fault too.
    """
    loaded, faults = read_settings(options, with_aws=with_aws)
    aws = None
    try:
        aws = discover() if with_aws else None
    except AwsSettingsError as error:
        faults += error.args
    if loaded and (fault := files_fault(loaded.settings.upstream.max_concurrent)):
        faults.append(fault)
    if faults or loaded is None:
        raise ConfigurationError(*faults)
    return loaded, aws


def config_file(options: Namespace, loaded: Loaded) -> ConfigFile | None:
    """Return the file of `--config`, or None if it can't be read again, as a pipe."""
    path: Path | None = options.config
    if path is None or not path.is_file():
        return None

    def load_again(content: bytes) -> Settings:
        again, faults = read_settings(
            options, with_aws=not options.sandbox, content=content
        )
        if faults or again is None:
            raise ConfigurationError(*faults)
        return again.settings

    return ConfigFile(path, loaded.content, load_again)


def read_settings(
    options: Namespace, *, with_aws: bool, content: bytes | None = None
) -> tuple[Loaded | None, list[str]]:
    """Return the gateway's settings and their faults; `content` is that of the file.

    An invalid setting has its value from the next source, or its default.
    """
    names = ("listen", "admin_listen", "workers")
    flags = {name: getattr(options, name, None) for name in names}
    faults: list[str] = []
    try:
        loaded: Loaded | None = load(
            flags=flags,
            environ=os.environ,
            config_file=options.config,
            content=content,
        )
    except SettingsError as error:
        loaded = error.loaded
        faults += error.args
    if loaded and not with_aws:
        faults += [
            f"callers[{at}].aws_role: the sandbox has no roles; remove aws_role"
            for at, rule in enumerate(loaded.settings.callers)
            if rule.aws_role
        ]
    return loaded, faults
