"""The exit codes and defaults of all commands, and text that is safe to print."""

from __future__ import annotations

DONE, FAILED, MISUSED, RUN_FAILED = range(4)  # exit codes
ADDRESS = "127.0.0.1:50051"
SHOWN_RUN = "1000003"  # the run of the sandbox that `serve --sandbox` shows
CHANGING_RUN = "2000001"  # a run of the sandbox whose status changes


def plain(text: str) -> str:
    """Return `text` with a space for each unprintable character."""
    return "".join(each if each.isprintable() else " " for each in text)
