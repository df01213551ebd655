"""Draws memory, files, latency and outcomes over time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

from load.soaking.samples import EARLY, LATE, OUTCOMES, Sample

HEADROOM = 1.1
COLORS = ("#4c9f70", "#d1495b", "#edae49", "#8d99ae")  # of OUTCOMES, in their order


def draw(samples: Sequence[Sample], file: Path, *, title: str) -> None:
    """Draw the samples into a PNG."""
    mpl.use("Agg")  # without a screen
    from matplotlib import pyplot as plt  # noqa: PLC0415  # only after the choice above

    figure, rows = plt.subplots(4, figsize=(11, 13), sharex=True, layout="constrained")
    figure.suptitle(title)
    memory, counts, latency, outcomes = rows
    at = [each.at for each in samples]
    _draw_memory(memory, at, samples)
    for name, value in (
        ("open files", "files"),
        ("threads", "threads"),
        ("connections to the upstream", "connections"),
    ):
        counts.plot(at, [getattr(each, value) for each in samples], label=name)
    counts.set(ylabel="number", title="Files, threads, connections")
    latency.plot(at, [each.p50_ms for each in samples], label="p50")
    latency.plot(at, [each.p99_ms for each in samples], label="p99")
    latency.set(ylabel="milliseconds", title="Latency of the answers", yscale="log")
    heights = [[each.outcomes[name] for each in samples] for name in OUTCOMES]
    outcomes.stackplot(at, *heights, labels=OUTCOMES, colors=COLORS)
    outcomes.set(
        ylabel="calls a second",
        title="How the calls ended",
        xlabel="seconds since the load began",
        xlim=(0, max(at, default=1)),
    )
    for each in (memory, counts):
        each.set_ylim(0, each.get_ylim()[1] * HEADROOM)
    for each in rows:
        each.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        each.grid(alpha=0.3)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)
    plt.close(figure)


def _draw_memory(axes: Any, at: list[float], samples: Sequence[Sample]) -> None:
    axes.plot(at, [each.memory_mib for each in samples], label="resident memory")
    total = max(at, default=1)
    for label, (first, last), color in (
        ("compared: early", EARLY, "#8d99ae"),
        ("compared: late", LATE, "#edae49"),
    ):
        axes.axvspan(first * total, last * total, color=color, alpha=0.2, label=label)
    axes.set(ylabel="MiB", title="Memory of the gateway")
