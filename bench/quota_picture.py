"""The measurements as a picture: answers and upstream calls over time."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from quota_account import TPS
from quota_load import CALLERS, OK, RUNS
from quota_servers import MODES, Measured

_COLORS = {"gateway": "#4c9f70", "boto3": "#edae49", "envoy": "#d1495b"}
_QUOTA_COLOR = "#333333"
_UNCOUNTED_COLOR = "#8d99ae"
_LINES = {"gateway": "-", "boto3": "-", "envoy": "-."}  # the latter two often meet
_UPSTREAM_TICKS = (0, 2, 4, 6, 8, 10, 20, 50, 100, 200)
_INCHES = 6.5, 8.0  # of a mode


def draw(measured: Sequence[Measured], file: Path) -> None:
    """Draw each mode as a column of a PNG."""
    mpl.use("Agg")  # there need be no screen
    from matplotlib import pyplot as plt  # noqa: PLC0415  # only after the choice above

    modes = [mode for mode in MODES if any(each.mode == mode for each in measured)]
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
        of_mode = [each for each in measured if each.mode == mode]
        _draw_mode(rows[0][column], rows[1][column], of_mode)
    for row in rows:
        row[0].set_ylim(bottom=0)  # only now, as it ends the fit to what is drawn
    handles, labels = rows[1][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    figure.savefig(_made(file), dpi=110)
    plt.close(figure)


def _draw_mode(answers: Any, upstream: Any, measured: Sequence[Measured]) -> None:
    for each in measured:
        name = each.server
        style = {"label": name, "color": _COLORS[name], "linestyle": _LINES[name]}
        ends = (call.ended for call in each.outcomes if call.status == OK)
        answers.plot(*_rates(ends, each.seconds), **style)
        upstream.plot(*_rates((one.at for one in each.asked), each.seconds), **style)
    upstream.axhline(TPS, color=_QUOTA_COLOR, linestyle="--", label="the quota")
    mode = measured[0].mode
    answers.set(ylabel="answered calls a second", title=f"{mode}: {MODES[mode].said}")
    upstream.set(
        ylabel="upstream calls a second, throttled ones too",
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
    upstream.set_yscale("symlog", linthresh=TPS)  # up to the quota it is linear
    upstream.set_yticks(_UPSTREAM_TICKS, labels=map(str, _UPSTREAM_TICKS))


def _rates(times: Iterable[float], seconds: float) -> tuple[list[float], list[int]]:
    """Return the middle of each whole second, and how many times lie in it."""
    counts = Counter(int(at) for at in times)
    whole = range(int(seconds))
    return [second + 0.5 for second in whole], [counts[second] for second in whole]


def _made(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    return file
