"""The readiness of a gateway with several workers."""

from __future__ import annotations

import pytest

from healthomics_gateway.app.aggregation.readiness import (
    DEAD_SECONDS,
    MergedReadiness,
    WorkerReadiness,
)
from healthomics_gateway.services.readiness import PartState

INVALID = "GATEWAY_CREDENTIALS_INVALID"


def worker(listeners: str = "", *, aws: str = "", fault: str = "") -> WorkerReadiness:
    """Return a worker whose parts are unready for these reasons."""
    parts = PartState("listeners", listeners, fault), PartState("aws", aws, "")
    return WorkerReadiness(why_not=listeners or aws, is_dead=bool(fault), parts=parts)


OK, UNREADY = worker(), worker(aws=INVALID)
DEAD = worker("GATEWAY_DRAINING", fault="it has ended")


def merged(
    *workers: WorkerReadiness, fault: str = "", silent_seconds: float = 0.0
) -> MergedReadiness:
    """Return the readiness of these workers, with a fault of a process."""
    known = dict(enumerate(workers, start=1))
    return MergedReadiness(
        lambda: known,
        faults=lambda: [fault] if fault else [],
        silent_seconds=lambda: silent_seconds,
    )


@pytest.mark.parametrize(
    ("workers", "expected"),
    [
        pytest.param((OK, OK), "", id="all"),
        pytest.param((UNREADY, OK), "", id="one"),
        pytest.param((UNREADY, UNREADY), INVALID, id="none"),
        pytest.param((), "no worker serves", id="no-worker"),
    ],
)
def test_gateway_is_ready_if_any_worker_is(
    workers: tuple[WorkerReadiness, ...], expected: str
) -> None:
    """If none is ready, the reason is that of the first one."""
    assert expected == merged(*workers).why_not


def test_draining_gateway_is_not_ready() -> None:
    """Once the shutdown has begun, workers that still serve don't count."""
    state = merged(OK)
    state.drain()

    assert "GATEWAY_DRAINING" == state.why_not


@pytest.mark.parametrize(
    ("workers", "expected"),
    [
        pytest.param((DEAD, DEAD), True, id="all"),
        pytest.param((DEAD, OK), False, id="one"),
        pytest.param((), False, id="none"),
    ],
)
def test_gateway_is_dead_if_all_workers_are(
    workers: tuple[WorkerReadiness, ...], *, expected: bool
) -> None:
    """Without a worker it isn't dead, because one is about to be started."""
    assert expected is merged(*workers).is_dead


def test_gateway_is_dead_if_no_worker_starts_for_long() -> None:
    """Else nothing would ever restart a gateway whose workers fail at each start."""
    seconds = (DEAD_SECONDS - 1, DEAD_SECONDS)

    assert [False, True] == [merged(silent_seconds=each).is_dead for each in seconds]


def test_lines_that_are_equal_are_shown_once() -> None:
    """If all workers say the same, a part has one line as with one process."""
    assert ["listeners: ok", "aws: ok", "workers: ok"] == merged(OK, OK).lines


def test_lines_that_differ_name_the_workers() -> None:
    """Each different state of a part has a line with the workers that have it."""
    assert [
        "listeners: ok",
        f"aws (workers 1 and 3): {INVALID}",
        "aws (worker 2): ok",
        "workers: ok",
    ] == merged(UNREADY, OK, UNREADY).lines


def test_faults_of_processes_have_a_line() -> None:
    """The last line says what is wrong with the workers themselves."""
    fault = "worker 1 is starting again (ended by SIGKILL)"

    assert f"workers: {fault}" == merged(OK, fault=fault).lines[-1]
    assert [f"workers: no worker serves: {fault}"] == merged(fault=fault).lines


@pytest.mark.parametrize(
    ("workers", "expected"),
    [
        pytest.param((OK, OK), ["listeners: ok"], id="ok"),
        pytest.param(
            (OK, DEAD),
            ["listeners (worker 1): ok", "listeners (worker 2): it has ended"],
            id="one",
        ),
        pytest.param((), ["listeners: no worker has reported"], id="none"),
    ],
)
def test_liveness_has_the_lines_of_the_listeners(
    workers: tuple[WorkerReadiness, ...], expected: list[str]
) -> None:
    """The only part of liveness has a line for each different state."""
    assert expected == merged(*workers).live_lines
