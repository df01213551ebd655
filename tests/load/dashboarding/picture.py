"""Draws the main panels of the dashboard."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

from load.dashboarding.scrapes import Curves, Recording

OURS = "healthomics_gateway_"
COLUMNS = 2
QUANTILES = (0.5, 0.95, 0.99)
MIB = 1 << 20
LONGEST_LEGEND = 4
HEADROOM = 1.4  # for the legend
FOOT = 0.04  # below 0, where a curve at 0 would be hidden by the axis
SHADES = ("#8d99ae", "#ffffff")

Panel = tuple[str, str, Callable[[Recording], Curves]]


def _named(name: str, curves: Curves) -> Curves:
    """Give the curve of a metric without labels a name; there may be none."""
    return dict(zip((name,), curves.values(), strict=False))


def _quantiles(recording: Recording, name: str, **labels: str) -> Curves:
    return {
        f"p{share * 100:g}": recording.quantile(share, name, **labels)
        for share in QUANTILES
    }


def _prefixed(prefix: str, curves: Curves) -> Curves:
    return {f"{prefix} {key}": values for key, values in curves.items()}


def _scaled(factor: float, curves: Curves) -> Curves:
    return {key: [each * factor for each in curve] for key, curve in curves.items()}


PANELS: tuple[Panel, ...] = (
    (
        "Calls by code",
        "calls a second",
        lambda seen: seen.rate("grpc_server_handled_total", by="grpc_code"),
    ),
    (
        "Duration of GetRun",
        "seconds",
        lambda seen: _quantiles(
            seen, "grpc_server_handling_seconds", grpc_method="GetRun"
        ),
    ),
    (
        "Refusals by reason",
        "calls a second",
        lambda seen: seen.rate(f"{OURS}refusals_total", by="reason"),
    ),
    (
        "Attempts, rate and limit",
        "calls a second",
        lambda seen: (
            _named("attempts", seen.rate(f"{OURS}upstream_attempts_total"))
            | _prefixed("rate", seen.value(f"{OURS}quota_rate", by="account"))
            | _prefixed("limit", seen.value(f"{OURS}quota_limit", by="account"))
        ),
    ),
    (
        "Queue",
        "calls",
        lambda seen: seen.value(f"{OURS}queue_length", by="kind"),
    ),
    (
        "Wait for the turn, calls",
        "seconds",
        lambda seen: _quantiles(seen, f"{OURS}queue_wait_seconds", kind="call"),
    ),
    (
        "Attempts by reason",
        "attempts a second",
        lambda seen: {
            key or "ok": values
            for key, values in seen.rate(
                f"{OURS}upstream_attempts_total", by="reason"
            ).items()
        },
    ),
    (
        "Hits, misses, shared fetches",
        "calls a second",
        lambda seen: (
            _named("hits", seen.rate(f"{OURS}cache_hits_total"))
            | _named("misses", seen.rate(f"{OURS}cache_misses_total"))
            | _named("shared fetches", seen.rate(f"{OURS}shared_fetches_total"))
        ),
    ),
    (
        "Calls by rule",
        "calls a second",
        lambda seen: seen.rate(f"{OURS}rule_calls_total", by="rule"),
    ),
    (
        "Open watches",
        "watches",
        lambda seen: _named("watches", seen.value(f"{OURS}watches")),
    ),
    (
        "Polls and changes",
        "a second",
        lambda seen: (
            _prefixed("polls", seen.rate(f"{OURS}watch_polls_total", by="outcome"))
            | _named("changes", seen.rate(f"{OURS}watch_changes_total"))
        ),
    ),
    (
        "Delay of changes",
        "seconds",
        lambda seen: _quantiles(seen, f"{OURS}watch_change_delay_seconds"),
    ),
    (
        "Memory",
        "MiB",
        lambda seen: _scaled(
            1 / MIB, _named("memory", seen.value("process_resident_memory_bytes"))
        ),
    ),
    (
        "CPU",
        "% of a core",
        lambda seen: _scaled(
            100, _named("CPU", seen.rate("process_cpu_seconds_total"))
        ),
    ),
)


def draw(
    recording: Recording,
    phases: Sequence[tuple[str, float]],
    file: Path,
) -> None:
    """Draw all panels into a PNG; `phases` are names and lengths in seconds."""
    mpl.use("Agg")  # without a screen
    from matplotlib import pyplot as plt  # noqa: PLC0415  # only after the choice above

    rows = -(-len(PANELS) // COLUMNS)
    figure, grid = plt.subplots(
        rows, COLUMNS, figsize=(12, 2.7 * rows), sharex=True, layout="constrained"
    )
    for axes in grid.flat[len(PANELS) :]:
        axes.set_visible(False)
    for axes, panel in zip(grid.flat[: len(PANELS)], PANELS, strict=True):
        _draw_panel(axes, panel, recording, phases)
    for axes in grid[0]:
        _name_phases(axes, phases)
    for axes in grid.flat[len(PANELS) - COLUMNS : len(PANELS)]:
        axes.tick_params(labelbottom=True)
        axes.set_xlabel("seconds since the load began")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=75)
    plt.close(figure)


def _draw_panel(
    axes: Any,
    panel: Panel,
    recording: Recording,
    phases: Sequence[tuple[str, float]],
) -> None:
    title, label, curves_of = panel
    curves = {
        name: values
        for name, values in curves_of(recording).items()
        if any(value > 0 for value in values)
    }
    for name, values in curves.items():
        axes.plot(recording.times, values, label=name)
    begin = 0.0
    for number, (_, seconds) in enumerate(phases):
        shade = SHADES[number % len(SHADES)]
        axes.axvspan(begin, begin + seconds, color=shade, alpha=0.15, linewidth=0)
        begin += seconds
    highest = max(
        (each for curve in curves.values() for each in curve if each > 0), default=1
    )
    axes.set(title=title, ylabel=label, xlim=(0, begin))
    axes.set_ylim(-FOOT * highest, highest * HEADROOM)
    axes.grid(alpha=0.3)
    if curves:
        columns = -(-len(curves) // LONGEST_LEGEND)
        axes.legend(loc="upper right", fontsize="small", ncols=columns)


def _name_phases(axes: Any, phases: Sequence[tuple[str, float]]) -> None:
    """Write the name of each phase above its part of the panels."""
    begin = 0.0
    for name, seconds in phases:
        axes.text(
            begin + seconds / 2,
            1.16,
            name.replace(" used", "\nused"),
            transform=axes.get_xaxis_transform(),
            ha="center",
            va="bottom",
            fontsize="small",
        )
        begin += seconds
