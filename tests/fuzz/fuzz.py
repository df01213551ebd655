"""Fuzz the parsers of upstream bytes for a given time.

Each target is fuzzed in a separate process, so that a finding in one doesn't stop the
others. A run begins with the kept corpus and with the inputs that earlier runs added to
build/fuzz. Ends with 0 if nothing was found, with 1 if an input breaks a promise, and
with 2 on bad usage or without atheris.
"""

import argparse
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from random import SystemRandom
from threading import Timer

TESTS = Path(__file__).resolve().parents[1]
CORPUS = TESTS / "fuzz/corpus"
FOUND = TESTS.parent / "build/fuzz"
TARGETS = ("translate", "classify", "code")
WORKER = (sys.executable, "-m", "fuzz.worker")
REPLAY = (sys.executable, "-m", "fuzz.targets")

USUAL_SECONDS = 60
INPUT_SECONDS = 5  # an input that takes longer is a finding
MEMORY_MB = 1024  # a target that needs more is a finding
END_SECONDS = 60.0  # that a worker may take beyond its time, to start and to end
QUIET_SECONDS = 5.0  # between two lines of progress
REPORT_LINES = 25  # of a finding
REPORT_WIDTH = 400  # of one of these lines
SMALL_TALK = ("INFO:", "WARNING:", "Dictionary:", "stat::", "0x", "\\x")
MAX_SEED = 2**31 - 1  # the fuzzer takes 0 for any seed

_INTERRUPTED = 130  # 128 + SIGINT, the shell's convention
_PROGRESS = re.compile(
    r"#(?P<inputs>\d+)\s.*?cov: (?P<cov>\d+) ft: \d+ corp: (?P<corpus>\d+)/"
)
_WRITTEN = re.compile(r"Test unit written to (.*)")


def main(
    arguments: Sequence[str] | None = None,
    *,
    engine: str = "atheris",
    worker: Sequence[str] = WORKER,
    replay: Sequence[str] = REPLAY,
    found: Path = FOUND,
) -> int:
    """Fuzz the targets that the command line names and return the exit code.

    `engine` is the module that `worker` needs, which is the program that fuzzes one
    target; `replay` runs one input. New inputs and findings go to the folder `found`.
    """
    options = _parser().parse_args(arguments)
    if options.replay:
        return max(replayed(file, replay) for file in options.replay)
    if find_spec(engine) is None:
        print(f"fuzz: {engine} is missing: `make fuzz` installs it", file=sys.stderr)  # noqa: T201  # output of a program
        return 2
    targets = list(dict.fromkeys(options.targets)) or TARGETS
    seed = options.seed or SystemRandom().randint(1, MAX_SEED)
    seconds = max(1, options.seconds // len(targets))
    say(f"{', '.join(targets)}: {seconds} s each, seed {seed}")
    try:
        broken = [
            target
            for target in targets
            if not fuzzed(target, worker, seconds=seconds, seed=seed, found=found)
        ]
    except KeyboardInterrupt:
        say("interrupted")
        return _INTERRUPTED
    say(f"broken: {', '.join(broken)}" if broken else "found nothing")
    return 1 if broken else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument(
        "targets",
        nargs="*",
        type=_target,
        metavar="TARGET",
        help=f"what to fuzz: {', '.join(TARGETS)} (default: all)",
    )
    parser.add_argument(
        "--seconds",
        type=_positive,
        default=USUAL_SECONDS,
        help="in all, shared among the targets (default %(default)s)",
    )
    parser.add_argument(
        "--seed", type=_positive, help="the seed of the inputs (default: any; printed)"
    )
    parser.add_argument(
        "--replay",
        type=_input,
        action="append",
        metavar="FILE",
        help="fuzz nothing, try an input again on the target that its folder names",
    )
    return parser


def _target(text: str) -> str:
    if text not in TARGETS:
        raise argparse.ArgumentTypeError(f"not one of {', '.join(TARGETS)}: {text}")
    return text


def _positive(text: str) -> int:
    if not re.fullmatch("[0-9]{1,10}", text) or not 1 <= int(text) <= MAX_SEED:
        raise argparse.ArgumentTypeError(f"not a number from 1 to {MAX_SEED}: {text}")
    return int(text)


def _input(text: str) -> Path:
    file = Path(text).resolve()
    if not file.is_file():
        raise argparse.ArgumentTypeError(f"not a file: {text}")
    if file.parent.name not in TARGETS:
        raise argparse.ArgumentTypeError(f"not in a folder of a target's name: {text}")
    return file


def fuzzed(
    target: str, worker: Sequence[str], *, seconds: int, seed: int, found: Path
) -> bool:
    """Fuzz one target and return whether it keeps its promises."""
    folder = found / target
    learned = folder / "learned"
    learned.mkdir(parents=True, exist_ok=True)
    command = (
        *worker,
        target,
        str(folder / "dictionary"),
        f"-max_total_time={seconds}",
        f"-seed={seed}",
        f"-timeout={INPUT_SECONDS}",
        f"-rss_limit_mb={MEMORY_MB}",
        f"-artifact_prefix={folder}/",
        str(learned),
        str(CORPUS / target),
    )
    exit_code, lines = _followed(target, command, seconds=seconds + END_SECONDS)
    if exit_code:
        _tell_finding(target, exit_code, lines)
    return not exit_code


def _followed(
    target: str, command: Sequence[str], *, seconds: float
) -> tuple[int, list[str]]:
    """Run a worker, print its progress, and return its exit code and last lines."""
    words: deque[str] = deque(maxlen=REPORT_LINES)
    began = reported = time.monotonic()
    last = ""
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=_environment(),
        text=True,
        errors="replace",
    ) as process:
        watchdog = Timer(seconds, process.kill)
        watchdog.start()
        try:
            for line in process.stdout or ():
                match = _PROGRESS.match(line)
                if not match:
                    if not line.startswith(SMALL_TALK):
                        words.append(line.rstrip()[:REPORT_WIDTH])
                    continue
                now = time.monotonic()
                last = (
                    f"{target}: {now - began:.0f} s, {match['inputs']} inputs, "
                    f"{match['corpus']} kept, coverage {match['cov']}"
                )
                if now - reported >= QUIET_SECONDS:
                    reported, last = now, say(last)
            exit_code = process.wait()
        finally:
            watchdog.cancel()
            process.kill()
    if last:
        say(last)
    return exit_code, [*words]


def _environment() -> dict[str, str]:
    """Return the environment in which a program can import the tests' modules."""
    paths = filter(None, (str(TESTS), os.environ.get("PYTHONPATH")))
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def _tell_finding(target: str, exit_code: int, lines: list[str]) -> None:
    inputs = [*filter(None, map(_WRITTEN.search, lines))]
    said = "FOUND" if inputs else "FAILED, without an input"
    say(f"{target}: {said} (the worker ended with {exit_code})", *lines)
    for match in inputs:
        file = Path(match[1])
        name = shlex.quote(os.path.relpath(file))
        replay = shlex.quote(f"--replay {name}")
        kept = shlex.quote(os.path.relpath(CORPUS / target / file.name))
        say(
            f"the input:       {name}",
            f"to try it again: make fuzz ARGS={replay}",
            f"to keep it:      cp {name} {kept}",
            "                 and name it after what it shows:",
            '                 make test ARGS="-k test_fuzz" tries it each time',
        )


def replayed(file: Path, replay: Sequence[str]) -> int:
    """Run an input on its target again; return 1 if it breaks a promise, else 0."""
    target = file.parent.name
    command = (*replay, target, str(file))
    exit_code = subprocess.run(command, env=_environment(), check=False).returncode
    end = "breaks a promise" if exit_code else "keeps its promises"
    say(f"{target}: {file.name} {end}")
    return 1 if exit_code else 0


def say(*lines: str) -> str:
    """Print a text at once and return an empty list, as nothing is left to print."""
    print(*lines, sep="\n", flush=True)  # noqa: T201  # output of a program
    return ""


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # to end its worker too
    sys.exit(main())
