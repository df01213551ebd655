"""The program that counts series, with few calls."""

from __future__ import annotations

from pathlib import Path

from load.cardinality import Result, Sizes, lines, measured
from testkit.metrics import Scrape

SIZES = Sizes(callers=20, runs=60, methods=10)


async def test_cardinality_is_measured_over_all_calls(tmp_path: Path) -> None:
    """The program gets each run, and calls each method that doesn't exist."""
    result = await measured(tmp_path, SIZES)

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
