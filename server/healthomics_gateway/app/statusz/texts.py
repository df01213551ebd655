"""Numbers, sizes and times as the status page shows them to a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from healthomics_gateway.app.statusz.markup import Markup, element, joined
from healthomics_gateway.durations import elapsed_text

DAY = 86_400
KIB = 1024
PERCENT = 100


def span(seconds: float) -> str:
    """Return a length of time in its two largest units: `2h 5m`."""
    return elapsed_text(timedelta(seconds=abs(seconds)))


def moment(when: datetime, now: datetime) -> Markup:
    """Return a time: how long ago or until then, and exactly, if today without date."""
    seconds = (when - now).total_seconds()
    relative = f"in {span(seconds)}" if seconds > 0 else f"{span(seconds)} ago"
    iso = f"{when:%Y-%m-%dT%H:%M:%SZ}"
    date = (
        "" if abs(seconds) < DAY and when.date() == now.date() else f"{when:%Y-%m-%d} "
    )
    exact = element("small", f"{date}{when:%H:%M:%S} UTC")
    return element("time", joined(relative, " ", exact), datetime=iso)


def number(value: float) -> str:
    """Return a number with at most one decimal: `1,234`, `7.5`."""
    text = f"{value:,.1f}"
    return text.removesuffix(".0")


def size(number_of_bytes: int) -> str:
    """Return a size: `64 MiB`."""
    value, unit = float(number_of_bytes), "B"
    for larger in ("KiB", "MiB", "GiB"):
        if value < KIB:
            break
        value, unit = value / KIB, larger
    return f"{number(value)} {unit}"


def percent(part: float, whole: float) -> str:
    """Return a share: `45 %`, or `0 %` of nothing."""
    return f"{round(PERCENT * part / whole) if whole else 0} %"


def count(value: int, one: str, many: str) -> str:
    """Return a number with its noun: `1 call`, `1,200 calls`."""
    return f"{value:,} {one if value == 1 else many}"


def worker_names(numbers: Sequence[int]) -> str:
    """Return the names of workers: `worker 1`, `workers 1, 2 and 4`."""
    *first, last = map(str, numbers)
    return f"workers {', '.join(first)} and {last}" if first else f"worker {last}"


def by_worker(texts: Mapping[int, str]) -> str:
    """Return what is wrong with workers: once if it is the same with all of them."""
    different = dict.fromkeys(filter(None, texts.values()))
    if len(set(texts.values())) <= 1:
        return "".join(different)
    return "; ".join(
        f"{worker_names([at for at, each in texts.items() if each == text])}: {text}"
        for text in different
    )
