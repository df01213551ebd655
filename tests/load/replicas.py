"""Load three replicas that share a Valkey, or one gateway with four workers.

All processes use one fake account, which records when each request arrives. For two
minutes, 300 callers want fresh answers, 60 accept remembered ones, and 1,000 watches
are open, while replicas or workers are killed and frozen, and Valkey is killed, frozen,
flushed and slowed. Ends with 0 if every figure is as it must be, with 1 and the wrong
figures otherwise, and with 130 if it was interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from load.replicating import faults
from load.replicating.callers import Sizes
from load.replicating.fleet import Replicas, Workers
from load.replicating.judge import Limits, Measured, verdict
from load.replicating.run import Plan, measure
from load.soaking.report import say

SECONDS, SHORT_SECONDS = 120.0, 18.0
SIZES = Sizes(
    fresh=300, remembered=60, remembered_runs=20, watches=1000, watched_runs=100
)
SHORT_SIZES = Sizes(
    fresh=120, remembered=30, remembered_runs=10, watches=300, watched_runs=50
)
# Polls of 100 runs every 5 s are 20 a second, within the watches' half.
LIMITS = Limits(tps=60, burst=12, period_seconds=5)
SHORT_LIMITS = replace(LIMITS, period_seconds=2)
INTERRUPTED = 130  # 128 + SIGINT, the shell's convention


def planned(*, workers: bool, short: bool) -> Plan:
    """Return the load."""
    if workers:
        happening = faults.WORKERS_SHORT if short else faults.WORKERS
    else:
        happening = faults.REPLICAS_SHORT if short else faults.REPLICAS
    return Plan(
        seconds=SHORT_SECONDS if short else SECONDS,
        sizes=SHORT_SIZES if short else SIZES,
        limits=SHORT_LIMITS if short else LIMITS,
        faults=happening,
        has_store=not workers,
    )


def _judge(measured: Measured, *, short: bool) -> int:
    report = verdict(measured)
    say(*report.lines)
    if short:
        say(*(f"not judged in a short run: {line}" for line in report.slow))
    else:
        report.faults += report.slow
    say(*(f"FAILED {line}" for line in report.faults))
    if not report.faults:
        say("ok: every figure is as it must be")
    return 1 if report.faults else 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="replicas",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "--workers",
        action="store_true",
        help="load one gateway with four workers and no store",
    )
    made.add_argument(
        "--short",
        action="store_true",
        help="18 seconds with fewer faults; times aren't judged",
    )
    made.add_argument(
        "--picture",
        type=Path,
        metavar="FILE",
        help="draw the requests a second in this file",
    )
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code."""
    options = parser().parse_args(arguments)
    plan = planned(workers=options.workers, short=options.short)
    fleet = Workers() if options.workers else Replicas()
    what = "four workers" if options.workers else "three replicas and Valkey"
    title = (
        f"{what}: {plan.seconds:g} s, {plan.limits.tps:g} requests a second,"
        f" {plan.sizes.watches:,} watches"
    )
    say(title)
    try:
        measured = asyncio.run(measure(plan, fleet))
    except KeyboardInterrupt:
        return INTERRUPTED
    if options.picture:
        from load.replicating.picture import draw  # noqa: PLC0415  # only this needs matplotlib

        draw(measured, options.picture, title=title)
        say(f"the picture is in {options.picture}")
    return _judge(measured, short=options.short)


if __name__ == "__main__":
    sys.exit(main())
