"""When a worker that has ended is started again."""

from __future__ import annotations

from healthomics_gateway.workers.restarts import SERVED_SECONDS, Restarts


def test_pause_doubles_up_to_half_a_minute() -> None:
    """The first restart is at once; the pauses before the next ones grow."""
    restarts = Restarts()

    assert [0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0] == [
        restarts.pause_seconds(SERVED_SECONDS) for _ in range(8)
    ]


def test_worker_that_has_served_starts_again_at_once() -> None:
    """After a minute of service, earlier failures don't count."""
    restarts = Restarts()
    for _ in range(5):
        restarts.pause_seconds(0.0)

    assert 0.0 == restarts.pause_seconds(SERVED_SECONDS + 1)
    assert 1.0 == restarts.pause_seconds(0.0)
