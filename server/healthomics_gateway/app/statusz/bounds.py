"""The bounds on what the status page shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

MAX_ITEMS = 500  # of a list; a settings file may have more rules than that
MAX_ACCOUNTS = 20  # each has 60 slots
MAX_CERTIFICATES = 50  # each may have a fault of MAX_TEXT
MAX_TEXT = 500  # characters

T = TypeVar("T")


def bounded(
    name: str, items: Sequence[T], left_out: dict[str, int], *, most: int = MAX_ITEMS
) -> Sequence[T]:
    """Return the first items, and note how many others there are."""
    if len(items) > most:
        left_out[name] = len(items) - most
    return items[:most]


def clipped(text: str) -> str:
    r"""Return a text of a bounded length that UTF-8 can encode.

    A byte of a path that isn't UTF-8 is shown as an escape: `\udcff`.
    """
    text = text[: MAX_TEXT + 1].encode(errors="backslashreplace").decode()
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"
