"""The command `settings`."""

from __future__ import annotations

from argparse import Namespace

from healthomics_gateway.cli.configuration import read
from healthomics_gateway.cli.standard_streams import print_error
from healthomics_gateway.cli.usage import DONE, plain
from healthomics_gateway.configuration_error import ConfigurationError
from healthomics_gateway.settings.effective import rows, warnings


def show(options: Namespace) -> int:
    """Print the effective settings; raise ConfigurationError if there are faults."""
    loaded, aws, faults = read(options, with_aws=not options.sandbox)
    for name, value, origin in rows(loaded) if loaded else ():
        print(plain(f"{name:<28}{value:<20}  {origin}"))
    if aws:
        print(f"{'AWS Region':<28}{aws.region:<20}  AWS's own settings")
        print(f"{'AWS endpoint':<28}{aws.endpoint}  AWS's own settings")
    for warning in warnings(loaded.settings) if loaded else ():
        print_error(f"warning: {plain(warning)}")
    if faults:
        raise ConfigurationError(*faults)
    return DONE
