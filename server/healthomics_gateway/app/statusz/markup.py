"""HTML elements as text, in which everything that isn't an element is escaped."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import TypeAlias

VOID = frozenset({"meta"})  # HTML's elements without an end tag
SHAPES = frozenset(
    {"line", "path", "rect"}
)  # of SVG, where an empty element ends with a slash


class Markup(str):
    """A text that is HTML already."""

    __slots__ = ()


Child: TypeAlias = str | int | None  # None is left out; a Markup isn't escaped


def element(name: str, /, *children: Child, **attributes: Child) -> Markup:
    """Return an element.

    The name of an attribute may end with `_`, as `class_` does, and has `_` for `-`.
    An attribute that is None is left out.
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in SHAPES:
        return Markup(f"<{name}{given}/>")
    if name in VOID:
        return Markup(f"<{name}{given}>")
    return Markup(f"<{name}{given}>{joined(*children)}</{name}>")


def table(
    columns: tuple[str, ...], rows: Iterable[tuple[Child, ...]], class_: Child = None
) -> Markup:
    """Return a table; on a narrow screen each cell has its column's name before it."""
    head = element("tr", *(element("th", each, scope="col") for each in columns))
    body = (
        element(
            "tr",
            *(
                element("td", element("span", cell), data_label=column)
                for column, cell in zip(columns, row, strict=True)
            ),
        )
        for row in rows
    )
    parts = element("thead", head), element("tbody", *body)
    return element("table", *parts, class_=class_)


def joined(*children: Child) -> Markup:
    """Return several texts and elements as one."""
    return Markup("".join(map(_text, children)))


def _text(child: Child) -> str:
    if child is None:
        return ""
    return child if isinstance(child, Markup) else escape(str(child))
