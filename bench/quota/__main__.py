"""Share a quota of 10 calls a second among 200 callers, through different servers.

200 callers poll 50 runs once a second, so 4 callers poll each run. The servers are this
gateway, a servicer that calls boto3 in a thread pool, and Envoy if it is installed.
Each server has a fake AWS account of its own with a quota of 10 calls a second.

In the mode `strict` answers must be fresh and deadlines are 10 s. In the mode `stale`
answers may be 10 s old and deadlines are 2 s. Prints a table for each mode and whether
the gateway meets its goals, and draws build/bench-quota.png.

The exit code is 0 if everything was measured, whatever the figures; 1 if a server
ended or returned another run than requested; 2 on a usage error.
"""

import argparse
import json
import math
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from common.programs import BenchError, names_of
from quota.envoy import MISSING_ENVOY, find_envoy
from quota.load import OK, Outcome
from quota.measurement import MODES, SERVERS, Measured, measure
from quota.report import Figures, report

_PLOT = Path(__file__).parents[2] / "build" / "bench-quota.png"
_DEFAULT_SECONDS, _MIN_SECONDS, _MAX_SECONDS = 60.0, 6.0, 600.0
_INTERRUPTED = 130  # 128 + SIGINT, as in shells


def main() -> int:
    """Parse the command line, run the benchmark and return the exit code."""
    options = _parser().parse_args()
    from quota.plot import draw  # noqa: PLC0415  # --help needs no matplotlib

    # A shell makes its background jobs ignore SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    console = Console(highlight=False)
    try:
        measured = [*_measured(console, options)]
    except BenchError as error:
        print(f"bench-quota: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench-quota: interrupted", file=sys.stderr)
        return _INTERRUPTED
    figures = [Figures.of(each) for each in measured]
    report(console, figures)
    if options.json:
        _write(options.json, figures, measured)
    if measured:
        draw(measured, _PLOT)
        console.print(f"the plot is in {_relative(_PLOT)}", soft_wrap=True)
    return 0


def _measured(console: Console, options: argparse.Namespace) -> Iterator[Measured]:
    servers = options.only
    if "envoy" in servers and find_envoy() is None:
        console.print(MISSING_ENVOY, soft_wrap=True)
        servers = [server for server in servers if server != "envoy"]
    modes = MODES if options.mode == "both" else (options.mode,)
    with tempfile.TemporaryDirectory(prefix="bench-quota-") as folder:
        for mode in modes:
            for server in servers:
                yield _printed(console, mode, server, options.seconds, Path(folder))


def _printed(
    console: Console, mode: str, server: str, seconds: float, folder: Path
) -> Measured:
    """Measure one server; print a line at the beginning and at the end."""
    name = f"{mode:6}  {server:7}"
    console.print(f"{name}  begins, for {seconds:g} s")
    with console.status(name) as status:

        def show(outcomes: Sequence[Outcome]) -> None:
            status.update(f"{name}  {_progress(outcomes)}")

        measured = measure(
            mode, server, seconds=seconds, folder=folder, each_second=show
        )
    throttled = sum(request.is_throttled for request in measured.requests)
    console.print(
        f"{name}  {_progress(measured.outcomes)};"
        f" {len(measured.requests):,} upstream requests, {throttled:,} throttled",
        soft_wrap=True,
    )
    return measured


def _progress(outcomes: Sequence[Outcome]) -> str:
    elapsed = math.ceil(max((outcome.ended for outcome in outcomes), default=0))
    answered = sum(outcome.status == OK for outcome in outcomes)
    return f"{elapsed} s: {answered:,} of {len(outcomes):,} calls answered"


def _write(
    file: Path, figures: Sequence[Figures], measured: Sequence[Measured]
) -> None:
    everything = {
        "summary": [asdict(each) for each in figures],
        "measured": [asdict(each) for each in measured],
    }
    file.write_text(json.dumps(everything) + "\n")


def _relative(file: Path) -> Path:
    here = Path.cwd()
    return file.relative_to(here) if file.is_relative_to(here) else file


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m quota",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--mode",
        choices=(*MODES, "both"),
        default="both",
        help="how fresh answers must be (default both, one after the other)",
    )
    parser.add_argument(
        "--seconds",
        type=_seconds,
        default=_DEFAULT_SECONDS,
        help=f"length of the load on each server in each mode, {_MIN_SECONDS:g} to"
        f" {_MAX_SECONDS:g}; the first sixth is drawn but not counted"
        f" (default {_DEFAULT_SECONDS:g})",
    )
    parser.add_argument(
        "--only",
        type=names_of(SERVERS),
        default=list(SERVERS),
        metavar="NAME,...",
        help=f"measure only these servers (default {','.join(SERVERS)})",
    )
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="write all figures, all calls and all upstream requests to this file",
    )
    return parser


def _seconds(text: str) -> float:
    if not (_MIN_SECONDS <= (seconds := float(text)) <= _MAX_SECONDS):
        raise argparse.ArgumentTypeError(
            f"must be from {_MIN_SECONDS:g} to {_MAX_SECONDS:g}"
        )
    return seconds


if __name__ == "__main__":
    sys.exit(main())
