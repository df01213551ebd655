"""The failed calls of one reason, as a part of the status page."""

from __future__ import annotations

from collections.abc import Iterator

from healthomics_gateway.app.statusz.markup import Child, Markup, element, joined
from healthomics_gateway.app.statusz.shape import Snapshot
from healthomics_gateway.app.statusz.texts import moment
from healthomics_gateway.telemetry.recent import Failure, ReasonCount


def reason(state: ReasonCount, of: Snapshot) -> Markup:
    """Return a reason with its count, and its calls among the last of all reasons.

    If none of its calls is among them, its own last one is returned.
    """
    name = state.last.reason
    newest = [each for each in of.errors.newest if each.reason == name] or [state.last]
    title = element(
        "h3",
        element("code", name),
        " ",
        element("small", f"{state.last.code}, {state.count:,} since the start"),
    )
    items = (element("li", *_entry(each, of)) for each in newest)
    return joined(title, element("ul", *items, class_="calls"))


def _entry(error: Failure, of: Snapshot) -> Iterator[Child]:
    method = error.method.rpartition("/")[2] or "unknown method"
    yield moment(error.time, of.time)
    yield element("span", method)
    yield element("code", error.request_id)
    if error.identity is not None:
        yield element("span", error.identity)
