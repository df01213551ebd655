"""The gateway's resources second by second, and the verdict on them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

EARLY, LATE = (0.2, 0.4), (0.8, 1.0)  # of the run: the windows that are compared
MAX_GROWTH = 0.05  # growth of the median memory, from the early window to the late one
MORE_FILES = 8  # more than the early median: as many connections as a burst may add
MORE_THREADS = 2
MORE_CONNECTIONS = 8
WARM_SECONDS = 120.0  # a shorter run is all warm-up and isn't judged
OUTCOMES = ("answered", "upstream failed", "caller's fault", "too late or left")


@dataclass(frozen=True, slots=True)
class Sample:
    """One second of the run."""

    at: float  # seconds since the load began
    memory_mib: float
    files: int
    threads: int
    connections: int  # to the upstream
    p50_ms: float = math.nan  # of the answers
    p99_ms: float = math.nan
    outcomes: Counter[str] = field(default_factory=Counter)  # of OUTCOMES


@dataclass(frozen=True, slots=True)
class Finding:
    """A sentence of the verdict, and whether it fails the run."""

    sentence: str
    fails: bool = False


def outcome_of(label: str) -> str:
    """Return the one of OUTCOMES that a call's end, its reason or OK, belongs to."""
    if label == "OK":
        return "answered"
    if label.startswith(("UPSTREAM_", "RUN_", "GATEWAY_")):
        return "upstream failed"
    if "DEADLINE" in label or label.startswith("CANCELLED"):
        return "too late or left"
    return "caller's fault"


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that a share of all values don't exceed; NaN for none."""
    ordered = sorted(values)
    at = math.ceil(share * len(ordered)) - 1
    return ordered[max(at, 0)] if ordered else math.nan


def verdict(samples: Sequence[Sample]) -> list[Finding]:
    """Compare the last fifth of the run with its second one."""
    total = samples[-1].at if samples else 0.0
    early = [each for each in samples if _is_in(EARLY, each.at, total)]
    late = [each for each in samples if _is_in(LATE, each.at, total)]
    if not early or not late:
        return [Finding("memory, files, threads: the run is too short to compare")]
    is_warm = total >= WARM_SECONDS
    aside = "" if is_warm else "; it doesn't decide: a short run is all warming up"

    def compared(
        name: str, unit: str, most: Callable[[float], float], value: str
    ) -> Finding:
        before = median(getattr(each, value) for each in early)
        after = median(getattr(each, value) for each in late)
        limit = most(before)
        sentence = (
            f"{name}: median {before:.1f}{unit} from {EARLY[0]:.0%} to {EARLY[1]:.0%}"
            f" of the run, {after:.1f}{unit} in the last fifth"
            f" (at most {limit:.1f}{unit}){aside}"
        )
        return Finding(sentence, fails=is_warm and after > limit)

    return [
        compared("memory", " MiB", lambda it: it * (1 + MAX_GROWTH), "memory_mib"),
        compared("open files", "", lambda it: it + MORE_FILES, "files"),
        compared("threads", "", lambda it: it + MORE_THREADS, "threads"),
        compared(
            "upstream connections", "", lambda it: it + MORE_CONNECTIONS, "connections"
        ),
    ]


def _is_in(window: tuple[float, float], at: float, total: float) -> bool:
    first, last = window
    return first * total <= at <= last * total
