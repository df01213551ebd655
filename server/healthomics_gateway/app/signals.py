"""The signals that end `serve`, and the signals that it ignores."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType

ENDED = 0  # exit code
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
IGNORED = (signal.SIGUSR1, signal.SIGUSR2)


def handle(ending: Callable[[int, FrameType | None], None]) -> None:
    """Call `ending` for each signal that ends the process.

    A signal that is already ignored stays ignored, such as SIGHUP under `nohup`.
    """
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, ending)
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)


def end_at_once(_number: int, _frame: FrameType | None) -> None:
    """Exit with code 0 at once: before anything is served, no drain is needed."""
    os._exit(ENDED)
