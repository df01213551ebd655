"""Completes words in a shell, by argcomplete's protocol."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import argcomplete
from argcomplete.completers import FilesCompleter, SuppressCompleter

FILE = "FILE"  # the metavar of arguments that are paths


def complete(parser: argparse.ArgumentParser) -> None:
    """Print the completions of the line in the environment, and end the process.

    These are commands, flags, the words of a choice, and paths where a file is meant;
    argcomplete itself would offer paths for every argument.
    """
    for action in _actions_of(parser):
        if action.metavar == FILE:
            action.completer = FilesCompleter()  # type: ignore[attr-defined]  # argcomplete looks for it
    argcomplete.autocomplete(parser, default_completer=SuppressCompleter())


def _actions_of(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:  # noqa: SLF001  # argparse has no public name for it
        yield action
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001  # as above
            for inner in action.choices.values():
                yield from _actions_of(inner)
