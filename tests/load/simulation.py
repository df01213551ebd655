"""Simulate replicas that share quotas, in virtual time, and print what they send.

50 replicas with 10,000 callers share quotas of 10, 100 and 1,000 requests a second,
through a store that is fast, slow or lost, while some of them die. Ends with 0 if no
second had more requests than a quota allows, and with 1 otherwise.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from load.soaking.report import say
from testkit.fleet import Fleet, Sender
from testkit.members import CUT
from testkit.virtual_time import now, virtually

REPLICAS, CALLERS = 50, 10_000
QUOTAS = (10.0, 100.0, 1000.0)
BURST_SECONDS = 0.25  # of the rate, as the default settings have
WARM_SECONDS = 3.0  # before the measurement: the burst is used
FAULT_AT = 5.0  # seconds after the start of the measurement
GONE_SECONDS = 5.0
DEAD = 0.2  # of the replicas
LATE_SECONDS = 12.0  # after the start of a fault, until it has no effects any more
FEW = 0.2  # of the average number of callers, at every second replica
LATENCY_SECONDS = (0.001, 0.04)  # of a command


@dataclass(frozen=True, slots=True)
class Scene:
    """What a simulation is about."""

    name: str
    is_slow: bool = False  # the store
    load: float = 0.0  # of the quota, by calls at random; 0: all callers always call
    is_unequal: bool = False  # the number of callers
    fault: str = ""  # `lose` or `kill`


SCENES = (
    Scene("all callers call"),
    Scene("the same, store slow", is_slow=True),
    Scene("the same, unequal", is_slow=True, is_unequal=True),
    Scene("80 % load, store slow", is_slow=True, load=0.8),
    Scene("store gone for 5 s", is_slow=True, fault="lose"),
    Scene("10 replicas die", is_slow=True, fault="kill"),
)


@dataclass(frozen=True, slots=True)
class Size:
    """How much is simulated."""

    replicas: int = REPLICAS
    callers: int = CALLERS
    seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class Result:
    """What was measured of a scene."""

    scene: str
    tps: float
    useful: float  # share of the quota, outside of the seconds of a fault
    most: float  # requests in a second, as a share of tps + burst
    replicas: float | None  # Jain's index of the requests of replicas
    callers: float | None  # the same of callers; None if some can't have a turn
    reserves: float  # a second
    beats: float  # a second
    median_seconds: float  # waited for a turn
    p99_seconds: float
    by_second: Sequence[int]


def jain(numbers: Iterable[float]) -> float:
    """Return Jain's index of fairness: 1 if all are equal, 1/n if one has all."""
    all_numbers = tuple(numbers)
    squares = sum(each * each for each in all_numbers)
    return sum(all_numbers) ** 2 / (len(all_numbers) * squares) if squares else 1.0


async def simulate(scene: Scene, tps: float, size: Size) -> Result:
    """Run a scene with one quota."""
    fleet = Fleet(tps=tps, burst=BURST_SECONDS * tps, expected=size.replicas)
    if scene.is_slow:
        fleet.latency = lambda: fleet.random.uniform(*LATENCY_SECONDS)
    await fleet.settled(size.replicas)
    names = {} if scene.load else _callers(fleet, scene, size)
    load = asyncio.create_task(_arrivals(fleet, scene.load))
    await asyncio.sleep(WARM_SECONDS)
    begin, before = now(), fleet.commands
    fleet.waits.clear()
    await asyncio.sleep(FAULT_AT)
    await _fail(fleet, scene.fault)
    await asyncio.sleep(begin + size.seconds - now())
    end, commands = now(), fleet.commands - before
    load.cancel()
    calm = begin + (FAULT_AT + LATE_SECONDS if scene.fault else 0)
    replicas, callers = _turns(fleet, names, since=calm)
    await fleet.close()
    waits = sorted(fleet.waits) or [0.0]
    return Result(
        scene.name,
        tps,
        useful=fleet.useful(calm, end),
        most=fleet.most() / (tps + fleet.burst),
        replicas=None if scene.load else jain(replicas),
        callers=jain(callers) if sum(callers) >= len(callers) > 0 else None,
        reserves=commands["reserve"] / size.seconds,
        beats=commands["beat"] / size.seconds,
        median_seconds=waits[len(waits) // 2],
        p99_seconds=waits[int(len(waits) * 0.99)],
        by_second=_by_second(fleet, begin, size.seconds),
    )


def _callers(fleet: Fleet, scene: Scene, size: Size) -> dict[str, Sender]:
    """Start callers that always call; return their replicas."""
    each, names = size.callers // size.replicas, {}
    for at, member in enumerate(fleet.members):
        share = (FEW if at % 2 else 2 - FEW) if scene.is_unequal else 1
        names |= dict.fromkeys(member.callers(round(each * share)), member)
    return names


async def _arrivals(fleet: Fleet, load: float) -> None:
    """Let calls arrive at random, at random replicas."""
    while load:
        await asyncio.sleep(fleet.random.expovariate(load * fleet.tps))
        fleet.random.choice(fleet.members).call()


async def _fail(fleet: Fleet, fault: str) -> None:
    if fault == "lose":
        fleet.server.fault = CUT
        await asyncio.sleep(GONE_SECONDS)
        fleet.server.fault = None
    elif fault == "kill":
        for each in fleet.members[: round(DEAD * len(fleet.members))]:
            each.member.kill()


def _turns(
    fleet: Fleet, names: Mapping[str, Sender], *, since: float
) -> tuple[list[int], list[int]]:
    """Return the numbers of requests of each living replica and of its callers."""
    sent = [each for each in fleet.sent if each[0] >= since]
    of_member = Counter(member for _, member, _ in sent)
    of_caller = Counter(caller for *_, caller in sent)
    living = [each for each in fleet.members if not each.member.is_killed]
    return (
        [of_member[each] for each in living],
        [of_caller[name] for name, by in names.items() if by in living],
    )


def _by_second(fleet: Fleet, begin: float, seconds: float) -> list[int]:
    number = Counter(int(at - begin) for at, *_ in fleet.sent if at >= begin)
    return [number[at] for at in range(int(seconds))]


COLUMNS = (
    "quota",
    "scene",
    "useful",
    "most",
    "replicas",
    "callers",
    "reserve/s",
    "beat/s",
    "p50",
    "p99",
)
HEAD = (f"| {' | '.join(COLUMNS)} |", "|" + " --- |" * len(COLUMNS))


def row(result: Result) -> str:
    """Return a result as a row of a table in Markdown."""
    cells = (
        f"{result.tps:g}",
        result.scene,
        f"{result.useful:.3f}",
        f"{result.most:.2f}",
        *(
            "" if each is None else f"{each:.3f}"
            for each in (result.replicas, result.callers)
        ),
        f"{result.reserves:.1f}",
        f"{result.beats:.1f}",
        f"{result.median_seconds:.2f} s",
        f"{result.p99_seconds:.2f} s",
    )
    return f"| {' | '.join(cells)} |"


def draw(results: Sequence[Result], picture: Path) -> None:
    """Draw the requests of each second, a panel for each quota."""
    import matplotlib as mpl  # noqa: PLC0415  # --help and tests need no matplotlib

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415  # after the choice of the backend

    quotas = sorted({each.tps for each in results})
    figure, panels = plt.subplots(len(quotas), figsize=(9, 3 * len(quotas)))
    for panel, tps in zip(panels, quotas, strict=True):
        for each in (each for each in results if each.tps == tps):
            panel.plot(each.by_second, label=each.scene)
        panel.axhline(tps * (1 + BURST_SECONDS), color="gray", linestyle="--")
        panel.set(ylim=(0, None), ylabel="requests", title=f"{tps:g} a second")
    panels[0].legend(fontsize="small", loc="lower right")
    panels[-1].set_xlabel("seconds")
    figure.tight_layout()
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=100)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="simulation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--picture", type=Path, help="draw the requests of each second")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code."""
    options = parser().parse_args(arguments)
    quiet = structlog.make_filtering_bound_logger(logging.ERROR)
    structlog.configure(wrapper_class=quiet)
    say(*HEAD)
    results = []
    for tps in QUOTAS:
        for scene in SCENES:
            results.append(virtually(lambda: simulate(scene, tps, Size())))  # noqa: B023  # called at once
            say(row(results[-1]))
    if options.picture:
        draw(results, options.picture)
    return int(any(each.most > 1 for each in results))


if __name__ == "__main__":
    sys.exit(main())
