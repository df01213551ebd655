"""Measure the CPU cost of GetRun in this gateway and in two other servers.

The gateway is measured on a cache miss (`missed`), on a cache hit (`remembered`), and
on a cache hit without its metrics (`unmeasured`) and while it traces calls of which
none is sampled (`unsampled`); with two workers on a cache miss (`two-missed`) and on a
cache hit (`two-remembered`); on a single core with one process (`pinned`) and with two
workers (`two-pinned`); and at the same rate for each worker, with one (`steady`) and
with two (`two-steady`). The other servers are a bare grpc.aio server that always
returns the same run (`echo`) and a servicer that calls boto3 in a thread pool
(`boto3`).

The exit code is 0 if everything was measured, whatever the figures; 1 if a call
returned a wrong answer; 2 on a usage error or if h2load isn't installed.
"""

import argparse
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from common.programs import BenchError, Footprint, names_of
from cost.report import Report, Sample
from cost.rounds import SERVERS, Rounds

_NO_H2LOAD = "bench: h2load isn't installed (Debian package: nghttp2-client)"
_MAX_SECONDS = 600.0
_INTERRUPTED = 130  # 128 + SIGINT, as in shells


def main() -> int:
    """Parse the command line, run the benchmark and return the exit code."""
    options = _parser().parse_args()
    h2load = shutil.which("h2load")
    if h2load is None:
        print(_NO_H2LOAD, file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console(highlight=False)
    try:
        samples, footprints = _measured(options, h2load, console)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return _INTERRUPTED
    report = Report(samples, footprints)
    report.print(console)
    if options.json:
        figures = {
            "summary": report.summary(),
            "memory": {name: asdict(each) for name, each in footprints.items()},
            "samples": [*map(asdict, samples)],
        }
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


def _measured(
    options: argparse.Namespace, h2load: str, console: Console
) -> tuple[list[Sample], Mapping[str, Footprint]]:
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        rounds = Rounds(h2load=h2load, seconds=options.seconds, folder=folder)
        with closing(rounds.samples(options.only, rounds=options.rounds)) as samples:
            return [*_printed(console, samples)], rounds.footprints


def _printed(console: Console, samples: Iterator[Sample]) -> Iterator[Sample]:
    """Print a line for each sample as it arrives, and yield the sample."""
    console.print("starting the servers and warming them up")
    for sample in samples:
        console.print(
            f"round {sample.round}  {sample.server:15}"
            f"{sample.calls_per_second:8,.0f} calls/s{sample.cpu_us:8,.0f} µs/call"
        )
        yield sample


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m cost",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--rounds",
        type=_rounds,
        default=15,
        help="number of loads for each server (default 15)",
    )
    parser.add_argument(
        "--seconds",
        type=_seconds,
        default=1.0,
        help=f"length of one load, at most {_MAX_SECONDS:g} (default 1)",
    )
    parser.add_argument(
        "--only",
        type=names_of(SERVERS),
        default=list(SERVERS),
        metavar="NAME,...",
        help=f"measure only these servers (default {','.join(SERVERS)})",
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write all figures to this file"
    )
    return parser


def _rounds(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _seconds(text: str) -> float:
    if not (0 < (seconds := float(text)) <= _MAX_SECONDS):
        raise argparse.ArgumentTypeError(
            f"must be more than 0 and at most {_MAX_SECONDS:g}"
        )
    return seconds


if __name__ == "__main__":
    sys.exit(main())
