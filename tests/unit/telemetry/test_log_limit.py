"""The limit on the lines of a kind, on a clock that the test sets."""

from typing import Any

import pytest
import structlog

from healthomics_gateway.telemetry.log_limit import LogLimit


class Ticking:
    """A clock that the test sets."""

    def __init__(self) -> None:
        """Start within a second."""
        self.now = 1000.5


def passed(limit: LogLimit, name: str, **fields: Any) -> Any:
    """Return an event as it is passed on, None if it is dropped."""
    try:
        return limit(None, "info", {"event": name, **fields})
    except structlog.DropEvent:
        return None


@pytest.mark.guarantee("log-floods")
def test_flood_of_one_kind_is_cut_and_counted() -> None:
    """Lines beyond the limit of a kind are dropped; the next line has their number."""
    clock = Ticking()
    limit = LogLimit(lines_per_second=3, clock=lambda: clock.now)
    flood = [passed(limit, "call", reason="METHOD_UNKNOWN") for _ in range(10)]
    other = passed(limit, "call", reason="")
    clock.now += 1
    again = passed(limit, "call", reason="METHOD_UNKNOWN")

    known = {"event": "call", "reason": "METHOD_UNKNOWN"}
    assert [known] * 3 + [None] * 7 == flood
    assert {"event": "call", "reason": "", "left_out": 7} == other
    assert known == again
