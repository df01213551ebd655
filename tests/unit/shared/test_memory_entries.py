"""The bounds of the values of a store in memory."""

from __future__ import annotations

from healthomics_gateway.shared.memory_entries import FIELD_BYTES, Entries
from testkit.clocks import MonotonicClock


def test_values_are_bounded() -> None:
    """The entries that were written longest ago are removed."""
    size = 1000
    entries = Entries(max_bytes=2 * (size + FIELD_BYTES), clock=MonotonicClock())
    for name in ("a", "b", "c"):
        entries.write(name, "x", bytes(size), age_seconds=0.0, keep_seconds=9.0)

    assert [False, True, True] == [
        entries.read(name, "x") is not None for name in ("a", "b", "c")
    ]


def test_values_that_have_expired_are_removed() -> None:
    """A store that was busy once gives its memory back with the next value."""
    clock = MonotonicClock()
    entries = Entries(max_bytes=2**20, clock=clock)
    for name in ("a", "b", "c"):
        entries.write(name, "x", b"value", age_seconds=0.0, keep_seconds=9.0)
        clock.now += 5.0

    assert 2 == len(entries)
    assert entries.read("a", "x") is None
