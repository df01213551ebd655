"""Seed bugs into a copy of the server and report whether the test suite finds each.

One bug is seeded at a time. First the tests that should find it are run; if the first
of them passes, the whole suite is run. Ends with 0 if every bug was found, with 1 if
one survived, and with 2 if the run itself failed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

TESTS = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[0] = str(TESTS)  # as in a test, instead of this program's folder

from mutants.mutants import MUTANTS, Mutant  # noqa: E402  # importable only after the path is set

# Runs the named tests, or all if none is named, against a copy of the server. Returns
# the first test that failed, or an empty string.
Suite: TypeAlias = Callable[[Sequence[str], Path], str]

ROOT = TESTS.parent
SERVER = ROOT / "server"
PACKAGE = "healthomics_gateway"
SHORT_STEP = 12  # a short run seeds every twelfth
NAMED_SECONDS = 240.0  # for the tests that should find the bugs
SUITE_SECONDS = 1200.0
IMPORT_SECONDS = 60.0
TEST_SECONDS = 15  # a named test that takes longer has found its bug

FAILED, FAULTY = (
    1,
    2,
)  # exit codes: pytest's of failed tests, ours of a run that failed
_INTERRUPTED = 130  # 128 + SIGINT, the shell's convention
_FAILED_TEST = re.compile(r"^FAILED (.+?)(?: - |$)", re.MULTILINE)
_WHERE = "import importlib, sys; print(importlib.import_module(sys.argv[1]).__file__)"


class RunError(Exception):
    """The run itself failed, so it says nothing about the suite."""


def tested(tests: Sequence[str], source: Path) -> str:
    """Run the test suite."""
    # With workers, pytest has another exit code if it stops at the first failure.
    alone = ("-n", "0", "-x", f"--timeout={TEST_SECONDS}")
    command = (
        *(sys.executable, "-m", "pytest", "-q", "--tb=no", "-rf"),
        *("-p", "no:cacheprovider", *(alone if tests else ("-n", "auto"))),
        *(f"{TESTS.name}/{test}" for test in tests),
    )
    seconds = NAMED_SECONDS if tests else SUITE_SECONDS
    code, output = _ended(command, source, seconds=seconds)
    match = _FAILED_TEST.search(output)
    if code == FAILED and match:
        return match[1]
    if code:
        raise RunError(f"pytest ended with {code}\n{output}")
    return ""


def main(
    arguments: Sequence[str] | None = None,
    *,
    mutants: Sequence[Mutant] = MUTANTS,
    suite: Suite = tested,
) -> int:
    """Seed the bugs that the command line chooses and return the exit code."""
    options = _parser(mutants).parse_args(arguments)
    chosen = [each for each in mutants if not options.only or each.name in options.only]
    if options.short:
        chosen = chosen[::SHORT_STEP]
    try:
        with TemporaryDirectory(prefix="mutants-") as folder:
            survivors = _survivors(chosen, Path(folder).resolve(), suite)
    except RunError as error:
        say(f"mutants: {error}")
        return FAULTY
    except KeyboardInterrupt:
        say("interrupted")
        return _INTERRUPTED
    if survivors:
        say(f"survived: {', '.join(survivors)}")
    say(f"{len(chosen) - len(survivors)} of {len(chosen)} mutants caught")
    return 1 if survivors else 0


def _parser(mutants: Sequence[Mutant]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mutants", description=__doc__)
    parser.add_argument(
        "--short",
        action="store_true",
        help=f"seed only every {SHORT_STEP}th bug of the list",
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=[each.name for each in mutants],
        metavar="NAME",
        help="seed this bug; may be repeated (default: all)",
    )
    return parser


def _survivors(mutants: Sequence[Mutant], folder: Path, suite: Suite) -> list[str]:
    """Seed the bugs one by one, print each result, and return those that survived."""
    began = time.monotonic()
    clean = _copied(SERVER, folder / "clean")
    named = {test for each in mutants for test in each.tests}
    if failed := suite(sorted(named), clean):
        raise RunError(f"without a bug, {failed} fails already")
    say(f"without a bug: {time.monotonic() - began:.1f} s, the named tests pass")
    survivors = []
    for number, mutant in enumerate(mutants, start=1):
        began = time.monotonic()
        failed = _tried(mutant, folder, suite, clean=clean)
        if not failed:
            survivors.append(mutant.name)
        end = f"caught by {failed}" if failed else "SURVIVED"
        seconds = time.monotonic() - began
        say(f"[{number}/{len(mutants)}] {mutant.name}: {seconds:.1f} s, {end}")
    return survivors


def _tried(mutant: Mutant, folder: Path, suite: Suite, *, clean: Path) -> str:
    """Seed a bug and return the test that finds it, or an empty string."""
    source = _copied(clean, folder / mutant.name)
    try:
        file = source / PACKAGE / mutant.file
        file.write_text(mutated(mutant, file.read_text()))
        _check_import(mutant, source)
        for test in mutant.holds:
            if not suite([test], source):
                say(f"{mutant.name}: {test} holds its guarantee no more")
                return ""
        if failed := suite([mutant.test], source):
            return failed
        say(f"{mutant.name}: {mutant.test} passes; now the whole suite")
        failed = suite((), source)
        if failed and suite([failed.removeprefix(f"{TESTS.name}/")], clean):
            raise RunError(f"without a bug, {failed} fails already")
        return failed
    finally:
        shutil.rmtree(source)


def _copied(source: Path, folder: Path) -> Path:
    """Copy the server's sources and return the folder for the import path."""
    ignored = shutil.ignore_patterns("__pycache__")
    return Path(shutil.copytree(source, folder, ignore=ignored))


def mutated(mutant: Mutant, text: str) -> str:
    """Return a file's text with the bug. Raises RunError unless `old` is in it once."""
    if (places := text.count(mutant.old)) != 1:
        raise RunError(f"{mutant.name}: its place is {places} times in {mutant.file}")
    return text.replace(mutant.old, mutant.new)


def _check_import(mutant: Mutant, source: Path) -> None:
    """Check that tests import the copy, and that it can be imported."""
    module = ".".join([PACKAGE, *Path(mutant.file).with_suffix("").parts])
    command = (sys.executable, "-c", _WHERE, module)
    code, output = _ended(command, source, seconds=IMPORT_SECONDS)
    if code:
        raise RunError(f"{mutant.name}: it can't be imported\n{output}")
    if output.partition("\n")[0] != str(source / PACKAGE / mutant.file):
        raise RunError(f"{mutant.name}: another server is imported\n{output}")


def _ended(command: Sequence[str], source: Path, *, seconds: float) -> tuple[int, str]:
    """Run a program against a copy and return its exit code and output."""
    environ = {
        **os.environ,
        # Outside the copy: other runs can't use an example that was found for a bug.
        "HYPOTHESIS_STORAGE_DIRECTORY": str(source.parent / "hypothesis"),
        "PYTHONPATH": str(source),
    }
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise RunError(f"not ended after {seconds:.0f} s: {command}") from None
        finally:
            with contextlib.suppress(ProcessLookupError):  # all processes have ended
                os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, output


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)  # noqa: T201  # output of a program


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # to end its tests too
    sys.exit(main())
