"""Draws how long watchers wait for a change."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import matplotlib as mpl

SECONDS = 10  # seconds of polls in a bar


def draw(
    delays: list[tuple[float, float]],
    asked: list[float],
    watched: list[tuple[float, int]],
    *,
    file: Path,
    share: float,
) -> None:
    """Draw delays by the time of the change, polls a second, and watched runs.

    `share` is the highest number of polls a second.
    """
    mpl.use("Agg")  # without a screen
    from matplotlib import pyplot as plt  # noqa: PLC0415  # only after the choice above

    figure, (late, polls, runs) = plt.subplots(
        3, figsize=(10, 9), sharex=True, layout="constrained"
    )
    figure.suptitle("Runs watched at default settings: how late a change is reported")
    late.scatter([at for at, _ in delays], [delay for _, delay in delays], s=8)
    late.set(ylabel="delay, seconds", title="Each change")
    bars = Counter(int(at // SECONDS) for at in asked)
    polls.bar(
        [(at + 0.5) * SECONDS for at in bars],
        [number / SECONDS for number in bars.values()],
        width=SECONDS * 0.9,
    )
    polls.axhline(share, color="#d1495b", label="the watches' share of the quota")
    polls.set(ylabel="polls a second", title="Polls")
    polls.legend(loc="lower right")
    runs.step(
        [at for at, _ in watched], [number for _, number in watched], where="post"
    )
    runs.set(ylabel="runs", title="Runs watched", xlabel="seconds", ylim=(0, None))
    for each in (late, polls, runs):
        each.grid(alpha=0.3)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)
    plt.close(figure)
