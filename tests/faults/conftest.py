"""Fixtures of the fault tests: a measuring event loop, rigs, and the table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from testkit.fault_table import Tally
from testkit.measuring_loop import MeasuringLoop
from testkit.rig import Rig


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], MeasuringLoop]]:
    """Run these tests on a loop that measures its callbacks."""
    return {"measured": MeasuringLoop}


@pytest.fixture
def tally(record_property: Callable[[str, object], None]) -> Iterator[Tally]:
    """The outcomes of this test, for the table."""
    seen = Tally()
    yield seen
    record_property("tally", seen.plain())


@pytest.fixture
def rigged(tally: Tally) -> Callable[..., Any]:
    """A factory of rigs whose calls are counted in the table."""
    return lambda *args, **kwargs: Rig.over(tally, *args, **kwargs)
