"""The failed calls of one reason, as a part of the status page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from healthomics_gateway.app.statusz.markup import (
    Child,
    Markup,
    element,
    joined,
    table,
)
from healthomics_gateway.app.statusz.shape import Snapshot
from healthomics_gateway.app.statusz.texts import moment
from healthomics_gateway.telemetry.recent import Failure, ReasonCount

COLUMNS = "when", "method", "request id"
CALLER = "caller"  # a further column, if identities are shown


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
    return joined(title, _calls(newest, of))


def _calls(errors: Iterable[Failure], of: Snapshot) -> Markup:
    are_shown = all(each.identity is not None for each in errors)
    columns = (*COLUMNS, CALLER) if are_shown else COLUMNS
    rows = (tuple(_entry(each, of))[: len(columns)] for each in errors)
    return table(columns, rows, class_="calls")


def _entry(error: Failure, of: Snapshot) -> Iterator[Child]:
    yield moment(error.time, of.time)
    yield error.method.rpartition("/")[2] or "unknown method"
    yield element("code", error.request_id)
    yield error.identity
