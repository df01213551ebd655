"""The command `settings`."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator

from healthomics_gateway.cli.configuration import read
from healthomics_gateway.cli.standard_streams import print_error
from healthomics_gateway.cli.usage import DONE, plain
from healthomics_gateway.configuration_error import ConfigurationError
from healthomics_gateway.settings.effective import rows, warnings
from healthomics_gateway.upstream.config import Aws

OF_AWS = "AWS's own settings"
UNKNOWN = "(see the fault)"


def show(options: Namespace) -> int:
    """Print the effective settings; raise ConfigurationError if there are faults.

    All settings are shown, also if AWS's own have faults.
    """
    loaded, aws, faults = read(options, with_aws=not options.sandbox)
    for name, value, origin in rows(loaded) if loaded else ():
        print(plain(f"{name:<28}{value:<20}  {origin}"))
    for name, value in () if options.sandbox else _rows_of(aws):
        print(plain(f"{name:<28}{value:<20}  {OF_AWS}"))
    for warning in warnings(loaded.settings) if loaded else ():
        print_error(f"warning: {plain(warning)}")
    if faults:
        raise ConfigurationError(*faults)
    return DONE


def _rows_of(aws: Aws | None) -> Iterator[tuple[str, str]]:
    """Yield the name and the value of AWS's own settings."""
    yield "AWS Region", aws.region if aws else UNKNOWN
    yield "AWS endpoint", aws.endpoint if aws else UNKNOWN
    yield "AWS CA file", aws.ca_file if aws else UNKNOWN
