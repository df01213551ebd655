"""Poll runs with 200 callers through one AWS account of 10 calls a second.

Each of 50 runs is polled by 4 callers once a second, through this gateway, through
boto3 in a pool of threads, and through Envoy where there is one: each with a fake
account of its own, whose quota it finds exhausted unless it saves calls. Callers want
strictly fresh answers within 10 s (strict), then answers at most 10 s old within 2 s
(stale). Prints a table and the gateway's goals, and draws build/bench-quota.png.
Ends with 0 whenever all was measured, goals met or not; with 1 when a server ended or
an answer was of another run; with 2 on bad usage.
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

import quota_envoy
from programs import BenchError, names_of
from quota_load import OK, Outcome
from quota_report import Figures, report
from quota_servers import MODES, SERVERS, Measured, measure
from rich.console import Console

_PICTURE = Path(__file__).parents[1] / "build" / "bench-quota.png"
_USUAL_SECONDS, _LEAST_SECONDS, _MOST_SECONDS = 60.0, 6.0, 600.0
_INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def main() -> int:
    """Run the bench as the command line says and return the exit code."""
    options = _parser().parse_args()
    from quota_picture import draw  # noqa: PLC0415  # --help needs no matplotlib

    # A shell's background job ignores Ctrl-C; both signals end the load in order.
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
        draw(measured, _PICTURE)
        console.print(f"the picture is {_near(_PICTURE)}", soft_wrap=True)
    return 0


def _measured(console: Console, options: argparse.Namespace) -> Iterator[Measured]:
    servers = options.only
    if "envoy" in servers and quota_envoy.find() is None:
        console.print(quota_envoy.MISSING, soft_wrap=True)
        servers = [each for each in servers if each != "envoy"]
    modes = MODES if options.mode == "both" else (options.mode,)
    with tempfile.TemporaryDirectory(prefix="bench-quota-") as folder:
        for mode in modes:
            for server in servers:
                yield _told(console, mode, server, options.seconds, Path(folder))


def _told(
    console: Console, mode: str, server: str, seconds: float, folder: Path
) -> Measured:
    """Measure one server, with a line as it begins and as it ends."""
    name = f"{mode:6}  {server:7}"
    console.print(f"{name}  begins, for {seconds:g} s")
    with console.status(name) as status:

        def tell(outcomes: Sequence[Outcome]) -> None:
            status.update(f"{name}  {_progress(outcomes)}")

        measured = measure(
            mode, server, seconds=seconds, folder=folder, each_second=tell
        )
    throttled = sum(each.is_throttled for each in measured.asked)
    console.print(
        f"{name}  {_progress(measured.outcomes)};"
        f" {len(measured.asked):,} calls upstream, {throttled:,} throttled",
        soft_wrap=True,
    )
    return measured


def _progress(outcomes: Sequence[Outcome]) -> str:
    at = math.ceil(max((each.ended for each in outcomes), default=0))
    answered = sum(each.status == OK for each in outcomes)
    return f"{at} s: {answered:,} of {len(outcomes):,} calls answered"


def _write(
    file: Path, figures: Sequence[Figures], measured: Sequence[Measured]
) -> None:
    everything = {
        "summary": [asdict(each) for each in figures],
        "measured": [asdict(each) for each in measured],
    }
    file.write_text(json.dumps(everything) + "\n")


def _near(file: Path) -> Path:
    here = Path.cwd()
    return file.relative_to(here) if file.is_relative_to(here) else file


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--mode",
        choices=(*MODES, "both"),
        default="both",
        help="how fresh the answers must be (default both, one after the other)",
    )
    parser.add_argument(
        "--seconds",
        type=_seconds,
        default=_USUAL_SECONDS,
        help="how long each server is polled in each mode; the first sixth is drawn"
        f" but not counted (default {_USUAL_SECONDS:g})",
    )
    parser.add_argument(
        "--only",
        type=names_of(SERVERS),
        default=list(SERVERS),
        metavar="NAME,...",
        help=f"measure these servers alone, of {','.join(SERVERS)}",
    )
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="write all figures, and every call and every request upstream",
    )
    return parser


def _seconds(text: str) -> float:
    if not (_LEAST_SECONDS <= (seconds := float(text)) <= _MOST_SECONDS):
        raise argparse.ArgumentTypeError(
            f"at least {_LEAST_SECONDS:g}, at most {_MOST_SECONDS:g}"
        )
    return seconds


if __name__ == "__main__":
    sys.exit(main())
