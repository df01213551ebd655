"""Summarize the measurements: a table for each mode, and whether the goals are met."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Self

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from quota.load import OK
from quota.measurement import MODES, Measured

GOALS_APPLY_TO = "gateway"
MIN_ANSWERED_SHARE = 0.999
MAX_IN_A_SECOND = 10  # the gateway's `quota.tps` and `quota.burst` together
MAX_THROTTLED = 0

_UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one server in one mode, from the counted part of the load."""

    mode: str
    server: str
    calls: int
    answered_share: float
    latency_p50_ms: float | None  # of answered calls, like the following three
    latency_p99_ms: float | None
    age_p50_seconds: float | None
    age_p99_seconds: float | None
    upstream_per_second: float
    upstream_most_in_a_second: int
    throttled: int
    errors: dict[str, int]  # number of calls by error status

    @classmethod
    def of(cls, measured: Measured) -> Self:
        """Compute the figures of one measurement."""
        begin, end = measured.uncounted_seconds, measured.seconds
        calls = [call for call in measured.outcomes if begin <= call.began < end]
        answers = [call for call in calls if call.status == OK]
        requests = [one for one in measured.requests if begin <= one.at < end]
        latencies = [1000 * (answer.ended - answer.began) for answer in answers]
        ages = [a.age_seconds for a in answers if a.age_seconds is not None]
        errors = Counter(call.status for call in calls if call.status != OK)
        return cls(
            mode=measured.mode,
            server=measured.server,
            calls=len(calls),
            answered_share=len(answers) / max(len(calls), 1),
            latency_p50_ms=_percentile(latencies, 50),
            latency_p99_ms=_percentile(latencies, 99),
            age_p50_seconds=_percentile(ages, 50),
            age_p99_seconds=_percentile(ages, 99),
            upstream_per_second=len(requests) / (end - begin),
            upstream_most_in_a_second=_most_in_a_second([one.at for one in requests]),
            throttled=sum(one.is_throttled for one in requests),
            errors=dict(errors.most_common()),
        )


def report(console: Console, all_figures: Sequence[Figures]) -> None:
    """Print a table for each mode, and whether each goal is met."""
    for mode, group in groupby(all_figures, attrgetter("mode")):
        in_mode = [*group]
        console.print(_table(mode, in_mode))
        for figures in in_mode:
            for status, count in figures.errors.items():
                console.print(f"{figures.server} not answered: {count:,} {status}")
        console.print()
    for figures in all_figures:
        if figures.server == GOALS_APPLY_TO:
            for line in _goals(figures):
                console.print(line)


def _table(mode: str, all_figures: Sequence[Figures]) -> Table:
    table = Table(
        "server",
        title=f"{mode}: {MODES[mode].description}",
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


def _pair(first: float | None, second: float | None, spec: str) -> str:
    if first is None or second is None:
        return _UNKNOWN
    return f"{first:{spec}}/{second:{spec}}"


def _goals(figures: Figures) -> Iterator[str]:
    subject = f"goal: {figures.mode}: {figures.server}"
    share, most = figures.answered_share, figures.upstream_most_in_a_second
    throttled = figures.throttled
    yield (
        f"{subject} answers >= {MIN_ANSWERED_SHARE:.1%}: {share:.2%},"
        f" {_verdict(met=share >= MIN_ANSWERED_SHARE)}"
    )
    yield (
        f"{subject} sends <= {MAX_IN_A_SECOND} requests in any second: {most},"
        f" {_verdict(met=most <= MAX_IN_A_SECOND)}"
    )
    yield (
        f"{subject} is throttled <= {MAX_THROTTLED} times: {throttled},"
        f" {_verdict(met=throttled <= MAX_THROTTLED)}"
    )


def _verdict(*, met: bool) -> str:
    return "met" if met else "not met"


def _percentile(values: Sequence[float], percent: float) -> float | None:
    """Return a percentile of the values, or `None` if there are no values."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)]


def _most_in_a_second(times: Sequence[float]) -> int:
    """Return the largest number of times within one second. `times` ascend."""
    most = first = 0
    for last, at in enumerate(times):
        while at - times[first] >= 1:
            first += 1
        most = max(most, last - first + 1)
    return most
