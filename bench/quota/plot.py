"""Plot answered calls and upstream requests over time."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

from quota.account import TPS
from quota.load import CALLERS, OK, RUNS
from quota.measurement import MODES, Measured

_COLORS = {"gateway": "#4c9f70", "boto3": "#edae49", "envoy": "#d1495b"}
_QUOTA_COLOR = "#333333"
_UNCOUNTED_COLOR = "#8d99ae"
_LINES = {"gateway": "-", "boto3": "-", "envoy": "-."}  # boto3 and envoy often overlap
_UPSTREAM_TICKS = (0, 2, 4, 6, 8, 10, 20, 50, 100, 200)
_INCHES = 6.5, 8.0  # width and height of a column


def draw(measured: Sequence[Measured], file: Path) -> None:
    """Draw a column for each mode and save the figure as a PNG."""
    mpl.use("Agg")  # works without a display
    from matplotlib import pyplot as plt  # noqa: PLC0415  # after the line above

    modes = [mode for mode in MODES if any(one.mode == mode for one in measured)]
    width, height = _INCHES
    figure, rows = plt.subplots(
        2,
        len(modes),
        figsize=(width * len(modes), height),
        sharex=True,
        sharey="row",
        squeeze=False,
        layout="constrained",
    )
    figure.suptitle(
        f"{CALLERS} callers poll {RUNS} runs once a second"
        f" through one account of {TPS:g} calls a second"
    )
    for column, mode in enumerate(modes):
        in_mode = [one for one in measured if one.mode == mode]
        _draw_mode(rows[0][column], rows[1][column], in_mode)
    for row in rows:
        row[0].set_ylim(bottom=0)  # last, as it stops the automatic scaling
    handles, labels = rows[1][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)
    plt.close(figure)


def _draw_mode(answers: Any, upstream: Any, measured: Sequence[Measured]) -> None:
    for one in measured:
        name = one.server
        style = {"label": name, "color": _COLORS[name], "linestyle": _LINES[name]}
        ends = (call.ended for call in one.outcomes if call.status == OK)
        answers.plot(*_rates(ends, one.seconds), **style)
        sent = (request.at for request in one.requests)
        upstream.plot(*_rates(sent, one.seconds), **style)
    upstream.axhline(TPS, color=_QUOTA_COLOR, linestyle="--", label="quota")
    mode = measured[0].mode
    title = f"{mode}: {MODES[mode].description}"
    answers.set(ylabel="answered calls a second", title=title)
    upstream.set(
        ylabel="upstream requests a second, with throttled ones",
        xlabel="seconds since the load began",
    )
    for axes in (answers, upstream):
        axes.axvspan(
            0,
            measured[0].uncounted_seconds,
            color=_UNCOUNTED_COLOR,
            alpha=0.2,
            label="not counted",
        )
        axes.set_xlim(0, measured[0].seconds)
        axes.grid(alpha=0.3)
    upstream.set_yscale("symlog", linthresh=TPS)  # linear up to the quota
    upstream.set_yticks(_UPSTREAM_TICKS, labels=map(str, _UPSTREAM_TICKS))


def _rates(times: Iterable[float], seconds: float) -> tuple[list[float], list[int]]:
    """Return the middle of each whole second, and the number of times in it."""
    counts = Counter(int(at) for at in times)
    whole = range(int(seconds))
    return [second + 0.5 for second in whole], [counts[second] for second in whole]
