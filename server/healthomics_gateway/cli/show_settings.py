"""The command `settings`."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator

from healthomics_gateway.cli.configuration import read_settings
from healthomics_gateway.cli.standard_streams import print_error
from healthomics_gateway.cli.usage import DONE, plain
from healthomics_gateway.configuration_error import ConfigurationError
from healthomics_gateway.settings.effective import rows, warnings
from healthomics_gateway.upstream.config import discover
from healthomics_gateway.upstream.endpoints import AwsSettingsError

OF_AWS = "AWS's own settings"
UNKNOWN = "(see the fault)"
NEEDS_REGION = "(needs the Region)"


def show(options: Namespace) -> int:
    """Print the effective settings; raise ConfigurationError if there are faults.

    All settings are shown, also if AWS's own have faults.
    """
    loaded, faults = read_settings(options, with_aws=not options.sandbox)
    for name, value, origin in rows(loaded) if loaded else ():
        print(plain(f"{name:<28}{value:<20}  {origin}"))
    for name, value in () if options.sandbox else _rows_of_aws(faults):
        print(plain(f"{name:<28}{value:<20}  {OF_AWS}"))
    for warning in warnings(loaded.settings) if loaded else ():
        print_error(f"warning: {plain(warning)}")
    if faults:
        raise ConfigurationError(*faults)
    return DONE


def _rows_of_aws(faults: list[str]) -> Iterator[tuple[str, str]]:
    """Yield the name and the value of AWS's own settings; append their faults."""
    try:
        aws = discover()
    except AwsSettingsError as error:
        faults += error.args
        region = error.known.get("region", UNKNOWN)
        endpoint = error.known.get("endpoint", UNKNOWN) or NEEDS_REGION
        ca_file = error.known.get("ca_file", UNKNOWN)
    else:
        region, endpoint, ca_file = aws.region, aws.endpoint, aws.ca_file
    yield "AWS Region", region
    yield "AWS endpoint", endpoint
    yield "AWS CA file", ca_file
