"""Soak the gateway: mixed calls and random faults, with every answer checked.

The real gateway runs in a separate process, against an upstream whose runs change. The
upstream records every byte that it serves, and has bursts of faults. Ends with 0 if
every answer is right and nothing grows, with 1 and a sentence for each finding
otherwise, and with 130 if it was interrupted without a finding.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from random import SystemRandom

from load.soaking.report import say, summary
from load.soaking.run import Soak

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "build" / "soak.png"
USUAL_SECONDS = 600.0
MOST_SECONDS = 86_400.0
USUAL_RATE, MOST_RATE = 150.0, 300.0  # calls a second
INTERRUPTED = 130  # 128 + SIGINT, the shell's convention


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code."""
    options = parser().parse_args(arguments)
    from load.soaking.picture import draw  # noqa: PLC0415  # --help needs no matplotlib

    seed = SystemRandom().getrandbits(32) if options.seed is None else options.seed
    say(
        f"soaking for {options.seconds:g} s at {options.rate:g} calls a second,"
        f" seed {seed} (--seed {seed} repeats it)"
    )
    soak = Soak(
        seed=seed,
        seconds=options.seconds,
        rate=options.rate,
        is_shared=options.shared,
    )
    asyncio.run(_soaked(soak))
    findings = soak.findings()
    say(*summary(soak), *(_line(each.sentence, fails=each.fails) for each in findings))
    if soak.record.samples:
        title = f"Soak of seed {seed}, {options.rate:g} calls a second"
        draw(soak.record.samples, options.picture, title=title)
        say(f"the picture is in {_near(options.picture)}")
    if any(each.fails for each in findings):
        say(f"FAILED, seed {seed}")
        return 1
    return INTERRUPTED if soak.is_interrupted else 0


async def _soaked(soak: Soak) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, soak.interrupt)
    await soak.run()


def _line(sentence: str, *, fails: bool) -> str:
    return f"{'FAILED' if fails else 'ok':6} {sentence}"


def _near(file: Path) -> Path:
    here = Path.cwd()
    return file.relative_to(here) if file.is_relative_to(here) else file


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "--seconds",
        type=_within(1, MOST_SECONDS),
        default=USUAL_SECONDS,
        help="duration of the load (default %(default)g)",
    )
    made.add_argument(
        "--seed", type=int, help="the seed of calls and faults (default: any)"
    )
    made.add_argument(
        "--rate",
        type=_within(1, MOST_RATE),
        default=USUAL_RATE,
        help=f"calls a second, at most {MOST_RATE:g} (default %(default)g)",
    )
    made.add_argument(
        "--shared",
        action="store_true",
        help="soak a gateway with two workers that share a Valkey",
    )
    made.add_argument(
        "--picture",
        type=Path,
        default=PICTURE,
        metavar="FILE",
        help="the file of the picture (default build/soak.png)",
    )
    return made


def _within(least: float, most: float) -> type[float]:
    def number(text: str) -> float:
        value = float(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"write {least:g} to {most:g}")
        return value

    return number  # type: ignore[return-value]  # argparse takes any callable


if __name__ == "__main__":
    sys.exit(main())
