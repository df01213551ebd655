"""Checks the settings, and those of AWS."""

from __future__ import annotations

from functools import partial
from urllib.parse import urlsplit

from healthomics_gateway.app.file_limit import files_fault
from healthomics_gateway.check.found import Found
from healthomics_gateway.check.step import Result, failed, ok
from healthomics_gateway.net.addresses import Address
from healthomics_gateway.settings.effective import warnings
from healthomics_gateway.settings.load import SettingsError, load
from healthomics_gateway.threads import in_thread
from healthomics_gateway.upstream.config import discover
from healthomics_gateway.upstream.endpoints import AwsSettingsError


async def check_settings(found: Found) -> Result:
    """Read the settings as `serve` does.

    The faults of certificates are left to their own step. The other steps use defaults
    in place of faulty settings, unless the file can't be read.
    """
    read = partial(
        load,
        flags={},
        environ=found.environ,
        config_file=found.config_file,
        reads_certificates=False,
    )
    faults: list[str] = []
    try:
        found.loaded = await in_thread(read, name="settings")
    except SettingsError as error:
        found.loaded = error.loaded
        faults += error.args
    found.faults = tuple(faults)
    if found.loaded is None:
        return failed(*faults)
    settings = found.loaded.settings
    if fault := files_fault(settings.upstream.max_concurrent):
        faults.append(fault)
    if faults:
        return failed(*faults, is_usable=True)
    given = len(found.loaded.origins)
    text = f"{given} set, all others have their defaults" if given else "all defaults"
    return ok(text, *warnings(settings))


async def check_aws(found: Found) -> Result:
    """Read AWS's own settings: Region, endpoint, CA file and proxy."""
    try:
        aws = found.aws = await in_thread(discover, name="aws-settings")
    except AwsSettingsError as error:
        return failed(*error.args)
    through = f", through {proxy_text(aws.proxy)}" if aws.proxy else ""
    return ok(f"{aws.region}, {aws.endpoint}{through}")


def proxy_text(proxy: str) -> str:
    """Return a proxy's name without the password that its URL may have."""
    parts = urlsplit(proxy)
    host = parts.hostname or ""
    return f"the proxy {Address(host, parts.port) if parts.port else host}"
