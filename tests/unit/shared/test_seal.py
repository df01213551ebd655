"""Names and values that only the holders of the secret can make."""

from __future__ import annotations

import pytest

from healthomics_gateway.shared.seal import Opened, Sealer
from testkit.clocks import MonotonicClock

SECRET = b"0123456789abcdef0123456789abcdef"


def test_value_is_opened_with_its_age() -> None:
    """The age is that of the sealing, by the wall clock in milliseconds."""
    clock = MonotonicClock(1_700_000_000.0)
    sealed = Sealer(SECRET, wall_clock=clock).seal("name", "field", b"payload")
    clock.now += 2.5
    other = Sealer(SECRET, wall_clock=clock)

    assert Opened(b"payload", 2.5) == other.open("name", "field", sealed)
    clock.now -= 10.0  # another machine's clock is behind
    assert Opened(b"payload", 7.5) == other.open("name", "field", sealed)


@pytest.mark.parametrize("at", range(49))
def test_value_with_a_changed_byte_is_rejected(at: int) -> None:
    """Its version, its tag, its time and its payload are authenticated."""
    sealer = Sealer(SECRET)
    sealed = bytearray(sealer.seal("name", "field", b"payload!"))
    sealed[at] ^= 1

    assert sealer.open("name", "field", bytes(sealed)) is None


def test_value_is_valid_only_where_it_belongs() -> None:
    """A copy at another name or field, or with another secret, is rejected."""
    sealer, other = Sealer(SECRET), Sealer(SECRET[::-1])
    sealed = sealer.seal("name", "field", b"payload")

    assert sealer.open("other", "field", sealed) is None
    assert sealer.open("name", "other", sealed) is None
    assert sealer.open("namefield", "", sealed) is None
    assert other.open("name", "field", sealed) is None


@pytest.mark.parametrize("length", [0, 1, 33, 40])
def test_value_that_is_too_short_is_rejected(length: int) -> None:
    """Whatever is in the store, opening it raises nothing."""
    sealer = Sealer(SECRET)
    sealed = sealer.seal("name", "field", b"")[:length]

    assert sealer.open("name", "field", sealed) is None


def test_names_differ_for_different_parts() -> None:
    """Parts aren't simply joined, and a kind and a secret are part of the name."""
    sealer = Sealer(SECRET)
    names = [
        sealer.name("kind", "a", "bc"),
        sealer.name("kind", "ab", "c"),
        sealer.name("kind", "abc"),
        sealer.name("other", "abc"),
        sealer.name("kind", "abc", ""),
        Sealer(SECRET[::-1]).name("kind", "abc"),
    ]

    assert len(names) == len(set(names))
    assert sealer.name("kind", "a", "bc") == names[0]
    assert {32} == set(map(len, names))
