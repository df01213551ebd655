"""The settings in effect, and the outcomes of reloads."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence

from healthomics_gateway.settings.schema import Settings

MAX_NAMES = 5  # settings with a fault that the summary names
MAX_FAULTS = 50  # that are kept and logged


class Reloads:
    """The settings in effect, and the outcomes of reloads."""

    def __init__(
        self, settings: Settings, *, now: Callable[[], float] = time.time
    ) -> None:
        """Begin with the settings of the start, which were read just now."""
        self.settings = settings
        self._now = now
        self.outcomes = {"ok": 0, "error": 0}  # numbers of reloads
        self.last_at = now()  # of the last reload or the start, in seconds since 1970
        self.faults: tuple[str, ...] = ()  # of the last reload

    @property
    def is_ok(self) -> bool:
        """Return whether the last reload succeeded; true before the first."""
        return not self.faults

    @property
    def fault(self) -> str:
        """Return the names of the faulty settings, or an empty text.

        The faults themselves are only logged: they may name callers.
        """
        if not self.faults:
            return ""
        names = list(dict.fromkeys(map(_name_of, self.faults)))
        more = ", ..." if len(names) > MAX_NAMES else ""
        named = ", ".join(names[:MAX_NAMES]) + more
        return f"faults in {named}; the settings stay as they were; see the log"

    def succeeded(self, settings: Settings) -> None:
        """Count a reload that succeeded; from now on `settings` are in effect."""
        self.settings = settings
        self._count("ok", ())

    def failed(self, faults: Sequence[str]) -> None:
        """Count a reload that failed."""
        self._count("error", tuple(faults[:MAX_FAULTS]))

    def _count(self, outcome: str, faults: tuple[str, ...]) -> None:
        self.outcomes[outcome] += 1
        self.last_at, self.faults = self._now(), faults


def _name_of(fault: str) -> str:
    """Return the setting that a fault begins with: `callers[0].methods in FILE: …`."""
    return re.split(r":? ", fault, maxsplit=1)[0][:64]
