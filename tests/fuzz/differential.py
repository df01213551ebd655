"""Translates random answers and rebuilds what was sent, up to the first that breaks.

An answer breaks when it can't be translated, when what AWS sent can't be rebuilt from
the translation by the rule *typed means exact*, or when a stock client can't decode it.
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
PROGRESS = 10_000  # answers from line to line

Translate = Callable[[bytes], Run]


def translate(body: bytes) -> Run:
    """Translate as the gateway does."""
    return run_from_json(body, run_id=RUN_ID)


def broken(body: bytes, translate: Translate = translate) -> list[str]:
    """Tell how the translation of an answer breaks: not at all, if all is well."""
    try:
        return differences(body.decode(), translate(body))
    except Exception:  # noqa: BLE001  # whatever it is, it is a finding
        return [traceback.format_exc()]


def answer_of(seed: int, at: int) -> bytes:
    """Write the answer `at` of a seed."""
    return answer(Random(f"{seed} {at}"))  # it must be told by its seed


def main(
    arguments: Sequence[str] | None = None, translate: Translate = translate
) -> int:
    """Run the program; give its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--answers", type=int, default=NIGHTLY, help="how many (default %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, help="what tells the answers (default: any)"
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
    """Print at once."""
    print(*lines, sep="\n", flush=True)  # noqa: T201  # a program's own words


if __name__ == "__main__":
    sys.exit(main())
