"""Measure crowds: many calls for one run, more runs than the quota, many watches.

The real gateway runs in a separate process, with default settings except where a figure
needs others, against a fake account with a quota of 10 calls a second. Ends with 0 if
every figure is as it must be, with 1 and the wrong figures otherwise, and with 130 if
it was interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from load.crowding import calls, watches
from load.crowding.account import Report
from load.soaking.report import say

PICTURE = Path(__file__).parents[2] / "build" / "watches.png"
INTERRUPTED = 130  # 128 + SIGINT, the shell's convention
SHORT = 0.05  # of the usual length or number
MOST_POLLS = watches.TPS * watches.QUOTA_SHARE


def _draw(*figures: Any) -> None:
    from load.crowding.picture import draw  # noqa: PLC0415  # --help needs no matplotlib

    draw(*figures, file=PICTURE, share=MOST_POLLS)


EXPERIMENTS: dict[str, Callable[[float], Awaitable[Report]]] = {
    "one-run": calls.one_run,
    "many-runs": calls.many_runs,
    "scanner": calls.scanner,
    "others": calls.others,
    "watches": watches.one_run,
    "watched-runs": partial(watches.many_runs, draw=_draw),
}
LONG = ("others",)  # these have no short form
ABOUT = {
    "one-run": calls.one_run.__doc__,
    "many-runs": calls.many_runs.__doc__,
    "scanner": calls.scanner.__doc__,
    "others": calls.others.__doc__,
    "watches": watches.one_run.__doc__,
    "watched-runs": watches.many_runs.__doc__,
}


async def _all(names: Sequence[str], *, is_short: bool) -> list[str]:
    share = SHORT if is_short else 1.0
    faults = []
    for name in names:
        begun = time.monotonic()
        say(f"{name}: {ABOUT[name]}")
        report = await EXPERIMENTS[name](share)
        say(*(f"  {line}" for line in report.lines))
        say(f"  took {time.monotonic() - begun:.0f} s")
        if is_short:
            say(*(f"  not judged in a short run: {line}" for line in report.slow))
        else:
            report.faults += report.slow
        faults += [f"FAILED {name}: {line}" for line in report.faults]
    return faults


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="crowds",
        description=__doc__,
        epilog="\n".join(f"  {name:14}{text}" for name, text in ABOUT.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "experiment",
        nargs="*",
        metavar="EXPERIMENT",
        help=f"one of {', '.join(EXPERIMENTS)} (default: all)",
    )
    made.add_argument(
        "--short",
        action="store_true",
        help="a twentieth of each but others; times and memory aren't judged",
    )
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code."""
    made = parser()
    options = made.parse_args(arguments)
    if unknown := set(options.experiment) - EXPERIMENTS.keys():
        made.error(f"no such experiment: {', '.join(sorted(unknown))}")
    usual = [name for name in EXPERIMENTS if not (options.short and name in LONG)]
    try:
        names = options.experiment or usual
        faults = asyncio.run(_all(names, is_short=options.short))
    except KeyboardInterrupt:
        return INTERRUPTED
    say(*faults or ["ok: every figure is as it must be"])
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
