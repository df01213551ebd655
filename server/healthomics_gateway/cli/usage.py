"""What the commands share: an exit code, defaults, and text that is safe to print."""

from __future__ import annotations

DONE = 0
ADDRESS = "127.0.0.1:50051"
SHOWN_RUN = "1000003"  # of the sandbox: the answer that `serve --sandbox` shows
LIVING_RUN = "2000001"  # of the sandbox: one that changes


def plain(text: str) -> str:
    """Return `text` with a space for each character that a terminal could obey."""
    return "".join(each if each.isprintable() else " " for each in text)
