"""The values of a store in memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from healthomics_gateway.shared.store import Stored

FIELD_BYTES = 1024  # that each counts for besides its value


@dataclass(slots=True)
class _Entry:
    until: float
    fields: dict[str, tuple[bytes, float]] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return sum(FIELD_BYTES + len(value) for value, _ in self.fields.values())


class Entries:
    """The entries by their names, in the order of their last writes."""

    def __init__(self, *, max_bytes: int, clock: Callable[[], float]) -> None:
        """Begin empty; if the values have more than `max_bytes`, the oldest go."""
        self._max_bytes = max_bytes
        self._clock = clock
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        """Return the number of entries, with those that have expired meanwhile."""
        return len(self._entries)

    def read(self, name: str, field: str) -> Stored | None:
        """Return the value of a field; see `Store`."""
        now, entry = self._clock(), self._entries.get(name)
        if entry is None or entry.until < now or field not in entry.fields:
            return None
        value, at = entry.fields[field]
        return Stored(value, now - at)

    def write(
        self,
        name: str,
        field: str,
        value: bytes,
        *,
        age_seconds: float,
        keep_seconds: float,
    ) -> None:
        """Set a field of an entry; see `Store`."""
        now = self._clock()
        entry = self._entries.get(name)
        if entry is None or entry.until < now:
            self.remove(name)
            entry = self._entries[name] = _Entry(now)
        self._bytes -= entry.size
        entry.fields[field] = value, now - age_seconds
        entry.until = now + keep_seconds
        self._bytes += entry.size
        self._entries.move_to_end(name)
        self._remove_oldest(now)

    def remove(self, name: str) -> None:
        """Remove an entry with all fields; see `Store`."""
        if entry := self._entries.pop(name, None):
            self._bytes -= entry.size

    def _remove_oldest(self, now: float) -> None:
        """Remove the entries that have expired, and those that are too many."""
        while self._entries:
            name, entry = next(iter(self._entries.items()))
            if entry.until >= now and self._bytes <= self._max_bytes:
                return
            self.remove(name)
