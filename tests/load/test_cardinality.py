"""The program that counts series, with few calls."""

from __future__ import annotations

from pathlib import Path

import pytest

from load.cardinality import Result, Sizes, lines, measured
from testkit.metrics import Scrape

SIZES = Sizes(callers=20, runs=60, methods=10)


@pytest.mark.guarantee("bounded-series")
async def test_cardinality_depends_on_the_settings_alone(tmp_path: Path) -> None:
    """Callers, runs and unknown methods add no series, and all calls are counted."""
    result = await measured(tmp_path, SIZES)

    assert [] == result.added
    assert SIZES.runs == result.after.value("rule_calls_total")
    assert SIZES.methods == result.after.value(
        "grpc_server_started_total", grpc_method="unknown"
    )


def test_cardinality_reports_each_new_series() -> None:
    """A series that wasn't there before is printed with its labels."""
    name, labels = "grpc_server_handled_total", frozenset({("caller", "alice")})
    handled = {(name, frozenset[tuple[str, str]]()): 1.0}
    before, after = (
        Scrape(values, {}, []) for values in (handled, handled | {(name, labels): 1.0})
    )
    printed = list(lines(Result(before, after, 0.0), SIZES))

    assert f"added: {name} [('caller', 'alice')]" == printed[-1]
