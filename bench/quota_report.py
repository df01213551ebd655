"""What a measurement adds up to: figures, a table for each mode, goals."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Self

from quota_load import OK
from quota_servers import MODES, Measured
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

GOAL_OF = "gateway"
LEAST_ANSWERED = 0.999
MOST_IN_A_SECOND = 10  # the gateway's tps and burst together
MOST_THROTTLED = 0

_UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one server in one mode, without the uncounted beginning."""

    mode: str
    server: str
    calls: int  # that began in the counted time
    answered_share: float
    latency_p50_ms: float | None  # of answers, as the following three
    latency_p99_ms: float | None
    age_p50_seconds: float | None
    age_p99_seconds: float | None
    upstream_per_second: float
    upstream_most_in_a_second: int
    throttled: int
    others: dict[str, int]  # calls by how they ended, without those answered

    @classmethod
    def of(cls, measured: Measured) -> Self:
        """Add up what was seen."""
        begin, end = measured.uncounted_seconds, measured.seconds
        calls = [each for each in measured.outcomes if begin <= each.began < end]
        answers = [each for each in calls if each.status == OK]
        asked = [each for each in measured.asked if begin <= each.at < end]
        latencies = [1000 * (each.ended - each.began) for each in answers]
        ages = [a.age_seconds for a in answers if a.age_seconds is not None]
        ends = Counter(each.status for each in calls if each.status != OK)
        return cls(
            mode=measured.mode,
            server=measured.server,
            calls=len(calls),
            answered_share=len(answers) / max(len(calls), 1),
            latency_p50_ms=_percentile(latencies, 50),
            latency_p99_ms=_percentile(latencies, 99),
            age_p50_seconds=_percentile(ages, 50),
            age_p99_seconds=_percentile(ages, 99),
            upstream_per_second=len(asked) / (end - begin),
            upstream_most_in_a_second=_most_in_a_second([each.at for each in asked]),
            throttled=sum(each.is_throttled for each in asked),
            others=dict(ends.most_common()),
        )


def report(console: Console, all_figures: Sequence[Figures]) -> None:
    """Print a table for each mode, and whether each goal is met."""
    for mode, of_mode in groupby(all_figures, attrgetter("mode")):
        in_mode = [*of_mode]
        console.print(_table(mode, in_mode))
        for figures in in_mode:
            for end, count in figures.others.items():
                console.print(f"{figures.server} not answered: {count:,} {end}")
        console.print()
    for figures in all_figures:
        if figures.server == GOAL_OF:
            for line in _goals(figures):
                console.print(line)


def _table(mode: str, all_figures: Sequence[Figures]) -> Table:
    table = Table(
        "server",
        title=f"{mode}: {MODES[mode].said}",
        title_justify="left",
        box=SIMPLE,
        padding=(0, 1, 0, 0),
    )
    for heading in (
        "calls",
        "answered",
        "latency, ms\np50/p99",
        "age, s\np50/p99",
        "upstream\ncalls/s",
        "most in\nany 1 s",
        "429s",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for figures in all_figures:
        table.add_row(*_cells(figures))
    return table


def _cells(figures: Figures) -> Iterator[str]:
    yield figures.server
    yield f"{figures.calls:,}"
    yield f"{figures.answered_share:.2%}"
    yield _pair(figures.latency_p50_ms, figures.latency_p99_ms, ",.0f")
    yield _pair(figures.age_p50_seconds, figures.age_p99_seconds, ".2f")
    yield f"{figures.upstream_per_second:.1f}"
    yield f"{figures.upstream_most_in_a_second}"
    yield f"{figures.throttled:,}"


def _pair(first: float | None, second: float | None, form: str) -> str:
    if first is None or second is None:
        return _UNKNOWN
    return f"{first:{form}}/{second:{form}}"


def _goals(figures: Figures) -> Iterator[str]:
    who = f"goal: {figures.mode}: {figures.server}"
    share, most = figures.answered_share, figures.upstream_most_in_a_second
    throttled = figures.throttled
    yield (
        f"{who} answers >= {LEAST_ANSWERED:.1%}: {share:.2%},"
        f" {_verdict(met=share >= LEAST_ANSWERED)}"
    )
    yield (
        f"{who} asks <= {MOST_IN_A_SECOND} times in any second: {most},"
        f" {_verdict(met=most <= MOST_IN_A_SECOND)}"
    )
    yield (
        f"{who} is throttled <= {MOST_THROTTLED} times: {throttled},"
        f" {_verdict(met=throttled <= MOST_THROTTLED)}"
    )


def _verdict(*, met: bool) -> str:
    return "met" if met else "not met"


def _percentile(values: Sequence[float], percent: float) -> float | None:
    """Return the value that `percent` of all don't exceed."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)]


def _most_in_a_second(times: Sequence[float]) -> int:
    """Return how many of the ascending `times` lie in the fullest second."""
    most = first = 0
    for last, at in enumerate(times):
        while at - times[first] >= 1:
            first += 1
        most = max(most, last - first + 1)
    return most
