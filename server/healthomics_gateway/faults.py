"""The exception that reports several faults at once."""

from __future__ import annotations


class FaultsError(Exception):
    """Settings, flags or files can't be used; `args` are the faults, a line each."""
