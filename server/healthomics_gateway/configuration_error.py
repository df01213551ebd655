"""The exception that reports several faults of the configuration at once."""

from __future__ import annotations


class ConfigurationError(Exception):
    """Settings, flags or files can't be used; `args` are the faults, a line each.

    Whenever a command raises it, also while it runs, the faults are printed and the
    exit code is 2, as for invalid usage.
    """
