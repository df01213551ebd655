"""Renders events as lines of the log, as JSON or as text.

Callers choose parts of many values. So each character that isn't printable (control
characters, bidirectional controls, invisible ones, lone surrogates) is escaped, in keys
and values, and has no effect on a terminal.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, MutableMapping
from datetime import datetime
from typing import Any, TypeAlias

import orjson
import structlog
from structlog.dev import plain_traceback

AUDIT = "call"  # the event of each call, and the name of its logger
MAX_LINE = 16_384  # characters; the values of a longer line are cut
MAX_VALUE = 2048  # characters of one value in such a line
DELETE = "\x7f"  # the only control character of ASCII that orjson doesn't escape

Event: TypeAlias = Mapping[str, Any]
Render: TypeAlias = Callable[[Event], str]


class Renderer:
    """Renders any event as one line; a processor of structlog.

    In the text format a traceback follows its event, on indented lines.
    """

    def __init__(self, render: Render) -> None:
        """Render with `json_line` or the result of `text_lines`."""
        self._render = render

    def __call__(
        self, _logger: Any, method: str, event: MutableMapping[str, Any]
    ) -> str:
        """Return the line."""
        try:
            if "exc_info" in event:
                event = structlog.processors.format_exc_info(None, method, event)
            line = self._render(event)
            if len(line) <= MAX_LINE:
                return line
            return self._render({key: _cut(each) for key, each in event.items()})
        except Exception:  # noqa: BLE001  # a value's `repr` may raise any
            plain = {key: unformatted(each) for key, each in event.items()}
            return self._render(plain)


def json_line(event: Event) -> str:
    """Return an event as JSON; characters that aren't printable are escaped."""
    try:
        line = orjson.dumps(event, default=repr, option=orjson.OPT_UTC_Z).decode()
    except TypeError:  # a lone surrogate, an integer beyond 64 bits
        return json.dumps(event, default=_written, allow_nan=False)
    if line.isascii() and DELETE not in line:
        return line
    return "".join(
        each if each.isprintable() else json.dumps(each)[1:-1] for each in line
    )


def text_lines(*, colors: bool) -> Render:
    """Return a function that renders events as readable text."""
    # The default shows local variables in tracebacks, which may hold credentials.
    render = structlog.dev.ConsoleRenderer(
        colors=colors, exception_formatter=plain_traceback
    )

    def rendered(event: Event) -> str:
        return render(
            None,
            "",
            {escaped(key): _shown(key, value) for key, value in event.items()},
        )

    return rendered


def escaped(text: str) -> str:
    """Return `text` with each character that isn't printable escaped as in Python."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode()
        for each in text
    )


def unformatted(value: Any) -> Any:
    """Return a value that can be rendered: `value` itself, or its `repr`."""
    if isinstance(value, str | datetime | bool | None):
        return _cut(value)
    try:
        return repr(value)[:MAX_VALUE]
    except Exception:  # noqa: BLE001  # as above
        return f"<{type(value).__name__}>"


class _Shown:
    """A value whose `repr` is the given text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _shown(key: str, value: Any) -> Any:
    if key == "exception" and isinstance(value, str):
        return "\n".join(f"  {escaped(line)}" for line in value.split("\n"))
    if key == "event":
        return escaped(str(value))
    if isinstance(value, str):
        return value if value.isprintable() else _Shown(repr(value))
    return _Shown(escaped(repr(value)))


def _cut(value: Any) -> Any:
    if isinstance(value, datetime | int | float | None):
        return value
    return (value if isinstance(value, str) else repr(value))[:MAX_VALUE]


def _written(value: Any) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%dT%H:%M:%S.%fZ}"
    return repr(value)
