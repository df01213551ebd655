"""Numbers, sizes and times as a person reads them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from healthomics_gateway.app.statusz.texts import moment, number, percent, size, span

NOW = datetime(2026, 11, 29, 0, 30, tzinfo=UTC)


@pytest.mark.parametrize(("seconds", "text"), [(-90, "1m 30s"), (7500, "2h 5m")])
def test_span_has_no_direction(seconds: float, text: str) -> None:
    """A time that has passed and one that comes are written in the same way."""
    assert text == span(seconds)


@pytest.mark.parametrize(
    ("number_of_bytes", "text"),
    [
        (1023, "1,023 B"),
        (1536, "1.5 KiB"),
        (2**26, "64 MiB"),
        (2**30, "1 GiB"),
        (2**41, "2,048 GiB"),
    ],
)
def test_size_has_its_largest_unit(number_of_bytes: int, text: str) -> None:
    """A size has at most one decimal."""
    assert text == size(number_of_bytes)


def test_numbers_are_short() -> None:
    """A number has at most one decimal; a share of nothing is 0 %."""
    assert ["8", "7.5", "1,234"] == [number(each) for each in (8.0, 7.49999, 1234)]
    assert ["33 %", "0 %"] == [percent(1, 3), percent(0, 0)]


@pytest.mark.parametrize(
    ("after", "text"),
    [
        (timedelta(seconds=-5), "5s ago <small>00:29:55 UTC</small>"),
        (timedelta(hours=1), "in 1h 0m <small>01:30:00 UTC</small>"),
        (timedelta(hours=-1), "1h 0m ago <small>2026-11-28 23:30:00 UTC</small>"),
        (timedelta(days=60), "in 60d 0h <small>2027-01-28 00:30:00 UTC</small>"),
    ],
)
def test_moment_is_relative_and_exact(after: timedelta, text: str) -> None:
    """A time of another day has its date."""
    when = NOW + after

    iso = f"{when:%Y-%m-%dT%H:%M:%SZ}"
    assert f'<time datetime="{iso}">{text}</time>' == moment(when, NOW)
