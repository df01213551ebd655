"""The settings in effect, and the outcomes of reloads."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence

from healthomics_gateway.settings.schema import Settings

MAX_NAMES = 5  # settings that the summary names of a kind
MAX_FAULTS = 50  # that are kept and logged


class Reloads:
    """The settings in effect, and the outcomes of reloads."""

    def __init__(
        self, settings: Settings, *, now: Callable[[], float] = time.time
    ) -> None:
        """Begin with the settings of the start, which were read just now."""
        self.settings = self.start = settings
        self._now = now
        self.outcomes = {"ok": 0, "error": 0}  # numbers of reloads
        self.last_at = now()  # of the last reload or the start, in seconds since 1970
        self.faults: tuple[str, ...] = ()  # of the last reload
        # Names of settings that a restart would change, as of the last that succeeded.
        self.pending: tuple[str, ...] = ()

    @property
    def is_ok(self) -> bool:
        """Return whether the last reload succeeded; true before the first."""
        return not self.faults

    @property
    def fault(self) -> str:
        """Return the names of faulty settings, and of those that need a restart.

        It is an empty text if there are none. The faults themselves are only logged:
        they may name callers.
        """
        found = []
        if self.faults:
            named = _listed(map(_name_of, self.faults))
            found.append(f"faults in {named}; the settings stay as they were")
        if self.pending:
            found.append(f"restart needed for {_listed(self.pending)}")
        return "; ".join([*found, "see the log"]) if self.faults else "".join(found)

    def succeeded(self, settings: Settings, *, pending: Sequence[str] = ()) -> None:
        """Count a reload that succeeded; from now on `settings` are in effect.

        `pending` has the names of those that need a restart.
        """
        self.settings, self.pending = settings, tuple(pending)
        self._count("ok", ())

    def failed(self, faults: Sequence[str]) -> None:
        """Count a reload that failed."""
        self._count("error", tuple(faults[:MAX_FAULTS]))

    def _count(self, outcome: str, faults: tuple[str, ...]) -> None:
        self.outcomes[outcome] += 1
        self.last_at, self.faults = self._now(), faults


def _listed(names: Iterable[str]) -> str:
    """Return the first names, each once."""
    each = list(dict.fromkeys(names))
    return ", ".join(each[:MAX_NAMES]) + (", ..." if len(each) > MAX_NAMES else "")


def _name_of(fault: str) -> str:
    """Return the setting that a fault begins with: `callers[0].methods in FILE: …`."""
    return re.split(r":? ", fault, maxsplit=1)[0][:64]
