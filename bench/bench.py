"""Measure what a GetRun costs this gateway, missed and remembered, beside two peers.

The peers are a bare grpc.aio echo of the same run and boto3 in a pool of threads.
Ends with 0 whenever all was measured, however slow; with 1 when a call wasn't answered
as it must be; with 2 on bad usage or without h2load.
"""

import argparse
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from programs import BenchError, names_of
from report import Report, Sample
from rich.console import Console
from rounds import SERVERS, Rounds

_NO_H2LOAD = "bench: h2load is missing: Debian's package nghttp2-client has it"
_MOST_SECONDS = 600.0
_INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def main() -> int:
    """Run the bench as the command line says and return the exit code."""
    options = _parser().parse_args()
    h2load = shutil.which("h2load")
    if h2load is None:
        print(_NO_H2LOAD, file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console(highlight=False)
    try:
        with closing(_measured(options, h2load)) as measured:
            samples = [*_told(console, measured)]
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return _INTERRUPTED
    report = Report(samples)
    report.print(console)
    if options.json:
        figures = {"summary": report.summary(), "samples": [*map(asdict, samples)]}
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


def _measured(options: argparse.Namespace, h2load: str) -> Generator[Sample]:
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        rounds = Rounds(h2load=h2load, seconds=options.seconds, folder=folder)
        yield from rounds.samples(options.only, rounds=options.rounds)


def _told(console: Console, samples: Iterator[Sample]) -> Iterator[Sample]:
    """Pass the samples on, each told in a line as it comes."""
    console.print("starting the servers and warming them up")
    for sample in samples:
        console.print(
            f"round {sample.round}  {sample.server:11}"
            f"{sample.calls_per_second:8,.0f} calls/s{sample.cpu_us:8,.0f} µs/call"
        )
        yield sample


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rounds", type=_rounds, default=15, help="loads of each server (default 15)"
    )
    parser.add_argument(
        "--seconds", type=_seconds, default=1.0, help="length of a load (default 1)"
    )
    parser.add_argument(
        "--only",
        type=names_of(SERVERS),
        default=list(SERVERS),
        metavar="NAME,...",
        help=f"measure these servers alone, of {','.join(SERVERS)}",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    return parser


def _rounds(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("at least 1 is needed")
    return number


def _seconds(text: str) -> float:
    if not (0 < (seconds := float(text)) <= _MOST_SECONDS):
        raise argparse.ArgumentTypeError(f"more than 0, at most {_MOST_SECONDS:g}")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
