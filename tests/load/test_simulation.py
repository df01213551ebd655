"""A short simulation: what replicas that share a quota promise, in a few seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from load.simulation import HEAD, SCENES, Scene, Size, draw, jain, parser, row, simulate
from testkit.virtual_time import virtually

SHORT = Size(replicas=10, callers=200, seconds=18.0)


@pytest.mark.parametrize(
    "scene", [pytest.param(each, id=each.name.replace(" ", "-")) for each in SCENES]
)
def test_replicas_share_a_quota_fairly_and_use_it(scene: Scene) -> None:
    """Nine tenths are used, in no second more than allowed, and replicas are equal."""
    result = virtually(lambda: simulate(scene, 100.0, SHORT))

    assert result.most <= 1
    assert result.useful >= (0.7 if scene.load else 0.9)
    assert scene.load or (result.replicas or 0.0) >= 0.99
    assert scene.is_unequal or scene.fault or (result.callers or 1.0) >= 0.99
    assert result.reserves <= 100 * 1.1 + 10
    assert result.beats <= 2 * SHORT.replicas


def test_callers_have_unequal_turns_if_replicas_have_unequal_numbers_of_them() -> None:
    """Turns go round among replicas, whose callers then share them."""
    scene = Scene("", is_unequal=True)
    result = virtually(lambda: simulate(scene, 100.0, SHORT))

    assert 0.3 <= (result.callers or 0.0) <= 0.8


def test_index_of_fairness() -> None:
    """It is 1 if all have as much, and 1/n if one has all."""
    assert (1.0, 0.25, 1.0) == (jain([2, 2]), jain([0, 8, 0, 0]), jain([0, 0]))


def test_row_has_a_cell_for_each_column() -> None:
    """The table is in Markdown."""
    result = virtually(lambda: simulate(Scene("x"), 10.0, Size(2, 4, 6.0)))

    assert {row(result).count("|")} == {each.count("|") for each in HEAD}


def test_picture_has_a_panel_for_each_quota(tmp_path: Path) -> None:
    """It is drawn only if it is asked for."""
    pytest.importorskip("matplotlib")
    results = [
        virtually(lambda: simulate(Scene("x"), tps, Size(2, 4, 6.0)))  # noqa: B023  # called at once
        for tps in (5.0, 10.0)
    ]
    options = parser().parse_args(["--picture", str(tmp_path / "x.png")])
    draw(results, options.picture)

    assert options.picture.stat().st_size > 1000
