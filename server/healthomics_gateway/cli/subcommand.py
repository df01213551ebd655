"""What all commands share: how they run, and the type of a duration."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeAlias

from healthomics_gateway.cli.arguments import duration

Command: TypeAlias = Callable[[argparse.Namespace], int]
DURATION: dict[str, Any] = {"type": duration, "metavar": "DURATION"}
Subparsers = Any  # argparse has no public name for what `add_subparsers` returns


def command(module: str, function: str) -> Command:
    """Return a command that imports its module when it runs, not before.

    Some of these imports take longer than a call.
    """

    def run(options: argparse.Namespace) -> int:
        imported = import_module(f"healthomics_gateway.cli.{module}")
        code: int = getattr(imported, function)(options)
        return code

    return run
