"""Measure whether a caller can find out by time that a run exists that it may not see.

A caller that a rule restricts to a group alternately asks for a run of another group
and for one that doesn't exist, one call at a time; the run has 1 KB, then 1 MB.
HealthOmics answers both at once, so any difference is the gateway's. Ends with 0 if the
medians of both differ by at most 10 ms (the median of the rounds), with 1 otherwise,
and with 130 if it was interrupted. Other load on the machine distorts the result; all
measurements are printed.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from structlog.testing import capture_logs

from healthomics_gateway.services.limits import REFUSAL_SECONDS
from load.soaking.report import say
from testkit.builders import Refusal, http
from testkit.callers import (
    GROUP,
    LIMS,
    NOWHERE,
    OTHER,
    THEIRS,
    Called,
    called,
    outcome,
    rule,
    token,
)
from testkit.lying_upstream import Answer, LyingUpstream, Request, said, true_run

RULES = rule(LIMS, run_groups=[GROUP]), rule(OTHER)
SLOWLY = {"GATEWAY_WATCH__INTERVAL": "1h"}  # no poll happens between the calls
TOKEN_SECONDS = 3600.0
USUAL_CALLS, LEAST_CALLS, MOST_CALLS = 15, 2, 100_000  # half a second each
USUAL_ROUNDS, MOST_ROUNDS = 3, 100
WARM_CALLS = 3
MAX_DIFFERENCE_MS = 10.0
# Parsing a large run could be measurable: this is about `upstream.max_body_bytes`.
LARGE = {f"input_{at}": "x" * 20 for at in range(26_000)}
INTERRUPTED = 130  # 128 + SIGINT, the shell's convention

Ask = Callable[[Called, str], Awaitable[Any]]


@cache
def bearer(identity: str) -> str:
    """Return a caller's signed token; it is created once."""
    return token(identity, exp=time.time() + TOKEN_SECONDS)


def truth_of(parameters: dict[str, str]) -> Callable[[Request], Answer]:
    """Return an account with one run of another group, with these parameters."""
    there = http(true_run(THEIRS, runGroupId="7654322", parameters=parameters))

    def truth(request: Request) -> Answer:
        is_there = request.run_id == THEIRS
        return there if is_there else said(404, "ResourceNotFoundException")

    return truth


SIZES = {"1 KB": truth_of({"a": "x" * 1000}), "1 MB": truth_of(LARGE)}
truth = SIZES["1 KB"]


async def get(gateway: Called, run_id: str) -> Any:
    """Make one GetRun."""
    return await outcome(gateway.get(run_id, bearer(LIMS)))


async def get_remembered(gateway: Called, run_id: str) -> Any:
    """Make one GetRun that the cache may answer; another caller keeps the run there."""
    stale = {"max_staleness": {"seconds": 60}}
    return await outcome(gateway.get(run_id, bearer(LIMS), **stale))


async def watch(gateway: Called, run_id: str) -> Any:
    """Begin one WatchRun, and return its first message."""
    call = gateway.watch(run_id, bearer(LIMS))
    found = await outcome(call.read())
    call.cancel()
    return found


ASKS: dict[str, Ask] = {
    "GetRun": get,
    "GetRun within max_staleness": get_remembered,
    "WatchRun's first message": watch,
}


@dataclass(frozen=True, slots=True)
class Round:
    """The results of one round of calls, alternately for both runs."""

    existing_ms: float  # the median
    absent_ms: float
    answers: frozenset[tuple[object, ...]]  # all that differ

    @property
    def difference_ms(self) -> float:
        """How much longer the slower of both takes."""
        return abs(self.existing_ms - self.absent_ms)


async def measure(gateway: Called, ask: Ask, calls: int) -> Round:
    """Ask for both runs alternately, this often for each, one call at a time."""
    seconds: dict[str, list[float]] = {THEIRS: [], NOWHERE: []}
    answers = set()
    gc.collect()
    gc.disable()  # its pauses aren't the gateway's
    try:
        for _ in range(calls):
            for run_id, of in seconds.items():
                begun = time.perf_counter()
                refusal = await ask(gateway, run_id)
                of.append(time.perf_counter() - begun)
                answers.add(shown(refusal))
    finally:
        gc.enable()
    return Round(
        median(seconds[THEIRS]) * 1000,
        median(seconds[NOWHERE]) * 1000,
        frozenset(answers),
    )


def shown(refusal: Any) -> tuple[object, ...]:
    """Return all that a refusal shows to the caller, except the ids that it knows."""
    assert isinstance(refusal, Refusal), refusal
    return (
        refusal.code,
        refusal.reason,
        refusal.message,
        refusal.size,
        tuple(sorted(refusal.details)),
        tuple(sorted(refusal.metadata)),
        tuple(sorted((key, len(value)) for key, value in refusal.trailers.items())),
    )


async def rounds_of(
    ask: Ask, of: Callable[[Request], Answer], *, calls: int, rounds: int
) -> list[Round]:
    """Measure one way to ask, on a new gateway."""
    with TemporaryDirectory() as folder:
        async with called(
            Path(folder),
            *RULES,
            upstream=LyingUpstream(truth=of),
            refusal_seconds=REFUSAL_SECONDS,
            **SLOWLY,
        ) as gateway:
            await gateway.get(THEIRS, bearer(OTHER))  # the cache has it from now on
            await measure(gateway, ask, WARM_CALLS)
            return [await measure(gateway, ask, calls) for _ in range(rounds)]


def table(found: dict[str, list[Round]]) -> Iterator[str]:
    """Return a line for each way to ask."""
    yield f"{'':36}{'exists ms':>11}{'absent ms':>11}{'differ ms':>11}"
    for name, rounds in found.items():
        existing = median(each.existing_ms for each in rounds)
        absent = median(each.absent_ms for each in rounds)
        differ = median(each.difference_ms for each in rounds)
        yield f"{name:36}{existing:>11.3f}{absent:>11.3f}{differ:>11.3f}"


def faults(found: dict[str, list[Round]]) -> Iterator[str]:
    """Return what is wrong."""
    for name, rounds in found.items():
        differ = median(each.difference_ms for each in rounds)
        if differ > MAX_DIFFERENCE_MS:
            yield f"{name}: {differ:.1f} ms apart, beyond {MAX_DIFFERENCE_MS:g}"
        if len(frozenset.union(*(each.answers for each in rounds))) > 1:
            yield f"{name}: the contents of the refusals differ"


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="indistinguishable",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "--calls",
        type=int,
        default=USUAL_CALLS,
        help="calls for each of both runs in a round (default %(default)d)",
    )
    made.add_argument(
        "--rounds",
        type=int,
        default=USUAL_ROUNDS,
        help="measurements of each way to ask (default %(default)d)",
    )
    return made


async def _all(options: argparse.Namespace) -> dict[str, list[Round]]:
    return {
        f"{name}, {size}": await rounds_of(
            ask, of, calls=options.calls, rounds=options.rounds
        )
        for name, ask in ASKS.items()
        for size, of in SIZES.items()
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code."""
    made = parser()
    options = made.parse_args(arguments)
    if not LEAST_CALLS <= options.calls <= MOST_CALLS:
        made.error(f"--calls: write {LEAST_CALLS} to {MOST_CALLS}")
    if not 1 <= options.rounds <= MOST_ROUNDS:
        made.error(f"--rounds: write 1 to {MOST_ROUNDS}")
    try:
        with capture_logs():  # one event a call
            found = asyncio.run(_all(options))
    except KeyboardInterrupt:
        return INTERRUPTED
    say(*table(found))
    wrong = [f"FAILED {each}" for each in faults(found)]
    say(*wrong or ["ok: the refusals can't be distinguished"])
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
