"""Runs one command and returns its exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from healthomics_gateway.cli.commands import make_parser
from healthomics_gateway.cli.standard_streams import (
    is_blocked,
    print_error,
    standard_streams,
)
from healthomics_gateway.cli.usage import FAILED, MISUSED, plain
from healthomics_gateway.configuration_error import ConfigurationError

COMPLETING = "_ARGCOMPLETE"  # set by the shell functions of argcomplete


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code.

    Raises SystemExit if the usage is invalid, for help, and if writing to stdout fails.
    """
    with standard_streams():
        # Keeps the C core from writing lines of its own to stderr.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        parser = make_parser()
        if COMPLETING in os.environ:  # a shell asks for completions
            from healthomics_gateway.cli.completion import complete

            complete(parser)
        options = parser.parse_args(arguments)
        try:
            code: int = options.run(options)
        except ConfigurationError as error:
            for fault in error.args:
                print_error(plain(fault))
            return MISUSED
        except KeyboardInterrupt as interruption:
            release_traceback(interruption)
            return FAILED
        except OSError:
            if not is_blocked(sys.stdout):
                raise
            return FAILED
        return code


def release_traceback(interruption: KeyboardInterrupt) -> None:
    """Free the objects of a traceback; don't print gRPC's errors about open calls."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    interruption.__traceback__ = None
    sys.unraisablehook = hook
