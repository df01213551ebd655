"""Translate random answers and rebuild what was sent, up to the first that fails.

An answer fails if it can't be translated, if what AWS sent can't be rebuilt from the
translation by the rule *typed means exact*, or if a stock client can't decode it.
"""

import argparse
import sys
import traceback
from collections.abc import Callable, Sequence
from random import Random, SystemRandom

from healthomics.v1.run_pb2 import Run
from healthomics_gateway.upstream.translate import run_from_json
from testkit.answers import RUN_ID, answer
from testkit.rebuild import differences

NIGHTLY = 100_000  # answers
PROGRESS = 10_000  # answers between two lines of progress

Translate = Callable[[bytes], Run]


def translate(body: bytes) -> Run:
    """Translate an answer as the gateway does."""
    return run_from_json(body, run_id=RUN_ID)


def broken(body: bytes, translate: Translate = translate) -> list[str]:
    """Return what is wrong with the translation of an answer, or an empty string."""
    try:
        return differences(body.decode(), translate(body))
    except Exception:  # noqa: BLE001  # any exception is a finding
        return [traceback.format_exc()]


def answer_of(seed: int, at: int) -> bytes:
    """Return answer number `at` of a seed."""
    return answer(Random(f"{seed} {at}"))  # its seed must reproduce it


def main(
    arguments: Sequence[str] | None = None, translate: Translate = translate
) -> int:
    """Run the program and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--answers",
        type=int,
        default=NIGHTLY,
        help="number (default %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, help="the seed of the answers (default: any)"
    )
    options = parser.parse_args(arguments)
    seed = SystemRandom().getrandbits(32) if options.seed is None else options.seed
    say(f"{options.answers} answers of seed {seed}")
    for at in range(options.answers):
        body = answer_of(seed, at)
        if faults := broken(body, translate):
            say(f"answer {at} of seed {seed} breaks:", *faults, repr(body))
            return 1
        if (at + 1) % PROGRESS == 0:
            say(f"{at + 1} answers are exact")
    say("every answer is exact")
    return 0


def say(*lines: str) -> None:
    """Print a line at once."""
    print(*lines, sep="\n", flush=True)  # noqa: T201  # output of a program


if __name__ == "__main__":
    sys.exit(main())
