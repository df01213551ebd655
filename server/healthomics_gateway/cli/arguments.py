"""The parser class of the commands, and the types of their arguments."""

from __future__ import annotations

import argparse
import os
from difflib import get_close_matches
from typing import Any

from healthomics_gateway.durations import parse_duration
from healthomics_gateway.net.addresses import parse_address

DISTRIBUTION = "healthomics-gateway"
MAX_ID_DIGITS = 18


class Parser(argparse.ArgumentParser):
    """The parser of one command: it rejects unknown flags and suggests known ones.

    With `shows_runs` the help lists the runs of the sandbox.
    """

    shows_runs = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse arguments; exit with the usage of this command if some are unknown.

        `argparse` itself would print the usage of the whole program.
        """
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            known = [*self._option_string_actions]
            near = get_close_matches(unknown[0].partition("=")[0], known, n=1)
            advice = f"; did you mean {near[0]}?" if near else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)}{advice}")
        return parsed, unknown

    def format_help(self) -> str:
        """Return the help text; import the list of runs only if it is shown."""
        if self.shows_runs:
            from healthomics_gateway.sandbox import RUNS_HELP

            self.epilog = f"Its runs:\n\n{RUNS_HELP}"
        return super().format_help()


class Version(argparse.Action):
    """Prints the version, which is looked up only when it is needed."""

    def __call__(self, parser: argparse.ArgumentParser, *_args: object) -> None:
        """Print the name and the versions, and exit with 0."""
        from importlib.metadata import version
        from platform import python_version

        from healthomics_gateway.version import VERSION

        beside = f"grpc {version('grpcio')}, Python {python_version()}"
        print(f"{parser.prog} {VERSION} ({beside})")
        parser.exit()


def utf8(argument: str) -> str:
    """Decode an argument as UTF-8; invalid bytes become replacement characters."""
    return os.fsencode(argument).decode(errors="replace")


def duration(text: str) -> Any:
    """Parse a duration such as 5s."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None


def address(text: str) -> Any:
    """Parse an address to listen on."""
    try:
        return parse_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None


def run_id(text: str) -> str:
    """Parse the id of a run."""
    if not (text.isascii() and text.isdecimal() and len(text) <= MAX_ID_DIGITS):
        raise argparse.ArgumentTypeError(
            f"{utf8(text)!r}: write the id of a run, 1 to {MAX_ID_DIGITS} digits"
        )
    return text


def quota(text: str) -> int:
    """Parse a number of calls."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}: write a number of calls, or 0")
    return int(text)


def whole_or_text(text: str) -> int | str:
    """Return a number if it is one; the settings check the result."""
    return int(text) if text.isascii() and text.isdecimal() else text
