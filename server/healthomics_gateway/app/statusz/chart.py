"""The chart of a quota's use: an inline SVG, with the same facts as text."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from math import floor, log10

from healthomics_gateway.app.statusz.markup import Markup, element, joined
from healthomics_gateway.app.statusz.shape import QuotaState
from healthomics_gateway.app.statusz.texts import count, number, percent, span
from healthomics_gateway.telemetry.quota_scope import ALL
from healthomics_gateway.telemetry.recent import SLOT_SECONDS, SLOTS

MINUTE = 60.0
TICKS = 4  # of the scale, at most, above 0
HEIGHT = 100.0  # of the drawing, which is SLOTS wide; the page stretches both
BAR_WIDTH = 0.8
MARK_HEIGHT = 6.0  # of the mark for a throttle, above the bars


def chart(quota: QuotaState, *, at: int) -> Markup:
    """Return the figure of one account, the figure number `at` of the page."""
    top = top_rate(quota)
    return element(
        "figure",
        element("h3", _title(quota)),
        element("p", summary(quota)),
        _legend(quota),
        element("p", "requests in each 15 s", class_="unit"),
        element("div", _scale(top), *_plot(quota, at, top), class_="plot"),
        element(
            "div",
            element("span", f"{number(SLOTS * SLOT_SECONDS / MINUTE)} minutes ago"),
            element("span", "now"),
            class_="axis",
        ),
    )


def summary(quota: QuotaState) -> str:
    """Return the facts of the chart as text."""
    seconds = quota.slots[0].ago_seconds
    whole = quota.used + quota.left
    busiest = max(each.used for each in quota.slots)
    text = (
        f"In the last {span(seconds)}: {count(quota.used, 'request', 'requests')} sent"
        f" to HealthOmics, {percent(quota.used, whole)} of what the quota allowed;"
        f" {quota.left:,} left. Busiest 15 s: {count(busiest, 'request', 'requests')}"
        f" of {number(quota.limit_per_second * SLOT_SECONDS)}."
    )
    if quota.throttled:
        text += f" AWS throttled {count(quota.throttled, 'request', 'requests')}."
    if quota.rate_per_second < quota.limit_per_second:
        text += (
            f" The rate is lowered to {number(quota.rate_per_second)} a second"
            " at the moment."
        )
    if quota.waiting_calls:
        text += f" {count(quota.waiting_calls, 'call waits', 'calls wait')} for a turn."
    if quota.waiting_polls:
        text += f" {count(quota.waiting_polls, 'poll waits', 'polls wait')} for a turn."
    if quota.scope == ALL:
        text += " Other gateways share the quota; their requests aren't counted here."
    return text


def top_rate(quota: QuotaState) -> float:
    """Return the calls a second at the top of the chart."""
    highest = max(
        max(each.used / SLOT_SECONDS, each.rate_per_second) for each in quota.slots
    )
    return 1.1 * max(quota.limit_per_second, highest)


def _title(quota: QuotaState) -> str:
    own = "the gateway's own account"
    account = own if quota.account == "own" else f"account {quota.account}"
    return f"Quota of {account}"


def _legend(quota: QuotaState) -> Markup:
    limit = (
        f"allowed ({number(quota.limit_per_second * SLOT_SECONDS)} in 15 s:"
        f" {number(quota.limit_per_second)} a second)"
    )
    named = [("used", "sent to HealthOmics"), ("limit", limit)]
    if quota.throttled:
        named.append(("throttled", "throttled by AWS"))
    items = (
        element("li", element("span", class_=f"key {kind}"), text)
        for kind, text in named
    )
    return element("ul", *items, class_="legend")


def ticks(top: float) -> list[float]:
    """Return up to 4 round numbers above 0 that aren't above `top`."""
    unit = 10.0 ** floor(log10(top / TICKS))
    steps = (unit * each for each in (1, 2, 5, 10))
    step = next(each for each in steps if each * (TICKS + 1) > top)
    return [step * at for at in range(1, TICKS + 1) if step * at <= top]


def _scale(top: float) -> Markup:
    """Return the vertical scale, which isn't stretched, so that it may have text."""
    marks = [(0.0, HEIGHT)]
    marks += [
        (each, HEIGHT * (1 - each / top / SLOT_SECONDS))
        for each in ticks(top * SLOT_SECONDS)
    ]
    lines = (
        joined(
            element("line", x1="3rem", x2="100%", y1=f"{y:.2f}%", y2=f"{y:.2f}%"),
            element("text", f"{each:,g}", x="2.6rem", y=f"{y:.2f}%"),
        )
        for each, y in marks
    )
    return element("svg", *lines, class_="scale", aria_hidden="true")


def _plot(quota: QuotaState, at: int, top: float) -> Iterator[Markup]:
    names = f"chart-{at}-title", f"chart-{at}-text"
    yield element(
        "svg",
        element("title", _title(quota), id=names[0]),
        element("desc", summary(quota), id=names[1]),
        *_bars(quota, top),
        _limit_line(quota, top),
        viewBox=f"0 0 {SLOTS} {HEIGHT:g}",
        preserveAspectRatio="none",
        class_="bars",
        role="img",
        aria_labelledby=names[0],
        aria_describedby=names[1],
    )


def _bars(quota: QuotaState, top: float) -> Iterator[Markup]:
    first = SLOTS - len(quota.slots)
    for x, slot in enumerate(quota.slots, start=first):
        if slot.used:
            height = HEIGHT * slot.used / SLOT_SECONDS / top
            is_under_way = x == SLOTS - 1
            yield _rect(x, HEIGHT - height, height, "now" if is_under_way else "used")
        if slot.throttled:
            yield _rect(x, 0.0, MARK_HEIGHT, "throttled")


def _rect(x: int, y: float, height: float, kind: str) -> Markup:
    return element(
        "rect",
        x=f"{x + (1 - BAR_WIDTH) / 2:g}",
        y=f"{y:.2f}",
        width=f"{BAR_WIDTH:g}",
        height=f"{height:.2f}",
        class_=kind,
    )


def _limit_line(quota: QuotaState, top: float) -> Markup:
    """Return a line of the rate that was allowed, with a step at each change."""
    x = SLOTS - len(quota.slots)
    steps = f"M{x} "
    for rate, slots in groupby(each.rate_per_second for each in quota.slots):
        y = f"{HEIGHT * (1 - rate / top):.2f}"
        x += len(list(slots))
        steps += f"{y}H{x}" if steps.endswith(" ") else f"V{y}H{x}"
    return element(
        "path",
        d=steps,
        class_="limit",
        fill="none",
        vector_effect="non-scaling-stroke",  # as the drawing is stretched
    )
