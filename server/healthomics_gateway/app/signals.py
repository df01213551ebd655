"""The signals that end `serve`, that reload its configuration, or that it ignores."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable
from types import FrameType
from typing import TypeAlias

ENDED = 0  # exit code
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
RELOADING = signal.SIGHUP  # instead of ending, if there is a configuration file
IGNORED = (signal.SIGUSR1, signal.SIGUSR2)

Handler: TypeAlias = Callable[[int, FrameType | None], None]


def handle(ending: Handler, *, reloading: Handler | None = None) -> None:
    """Call `ending` for each signal that ends the process.

    With `reloading`, call that for SIGHUP. A signal that is already ignored stays
    ignored, such as SIGHUP under `nohup`.
    """
    handlers = dict.fromkeys(ENDING, ending)
    if reloading:
        handlers[RELOADING] = reloading
    for number, handler in handlers.items():
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)


def names_file(arguments: Iterable[str]) -> bool:
    """Return whether the arguments of `serve` have `--config`, perhaps shortened."""
    return any(each.startswith("--c") for each in arguments)


def do_nothing(_number: int, _frame: FrameType | None) -> None:
    """Ignore a signal that asks for a reload, before the file is read."""


def end_at_once(_number: int, _frame: FrameType | None) -> None:
    """Exit with code 0 at once: before anything is served, no drain is needed."""
    os._exit(ENDED)
