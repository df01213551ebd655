"""Draws the requests a second at the account, with the faults."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import matplotlib as mpl

from load.replicating.judge import KINDS, Measured
from load.replicating.runs import FRESH, REMEMBERED, WATCHED

COLORS = {FRESH: "#2a6f97", REMEMBERED: "#61a5c2", WATCHED: "#e9c46a"}
FAULT_COLOR, LIMIT_COLOR = "#d1495b", "#6c757d"
LEAST_WIDTH = 0.4  # seconds: of a fault that lasts no time


def draw(measured: Measured, file: Path, *, title: str) -> None:
    """Draw the requests of each second by the part of the load that caused them."""
    mpl.use("Agg")  # without a screen
    from matplotlib import pyplot as plt  # noqa: PLC0415  # only after the choice above

    figure, plot = plt.subplots(figsize=(11, 4.5), layout="constrained")
    seconds = range(math.ceil(measured.seconds))
    below = [0] * len(seconds)
    for kind in KINDS:
        counts = Counter(int(e.at) for e in measured.arrivals if e.kind == kind)
        heights = [counts[second] for second in seconds]
        middle = [second + 0.5 for second in seconds]
        plot.bar(middle, heights, 1.0, bottom=below, label=kind, color=COLORS[kind])
        below = [low + high for low, high in zip(below, heights, strict=True)]
    limits = measured.limits
    top = limits.tps + limits.burst
    plot.axhline(limits.tps, color=LIMIT_COLOR, linestyle="--", label="tps")
    plot.axhline(top, color=FAULT_COLOR, linestyle="--", label="tps + burst")
    for fault in measured.faults:
        last = max(fault.ended, fault.begun + LEAST_WIDTH)
        plot.axvspan(fault.begun, last, color=FAULT_COLOR, alpha=0.18, linewidth=0)
        plot.text(fault.begun, top * 1.05, fault.name, fontsize=8, rotation=20)
    plot.set(
        xlabel="seconds",
        ylabel="requests a second",
        xlim=(0, measured.seconds),
        ylim=(0, top * 1.4),
    )
    plot.set_title(title, pad=12)
    plot.legend(loc="lower right", ncols=len(KINDS) + 2, fontsize=8)
    plot.grid(alpha=0.3)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)
    plt.close(figure)
