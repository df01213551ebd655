"""The runs of the sandbox, without its server."""

import re
from datetime import UTC, datetime
from typing import Any

import pytest

from healthomics_gateway.sandbox.catalog import Catalog
from healthomics_gateway.sandbox.runs import Members

SETTLED = [str(run_id) for run_id in range(1000001, 1000009)]


def catalog(*, at: datetime = datetime(2026, 1, 2, 3, 4, 5, 678000, UTC)) -> Catalog:
    """Return the runs of a sandbox whose clock doesn't advance."""
    return Catalog(now=lambda: at, monotonic=lambda: 0.0)


def times(run: Members) -> list[str]:
    """Return the times of a run, in order."""
    names = ("creationTime", "startTime", "stopTime")
    return [str(run[name]) for name in names if name in run]


@pytest.mark.parametrize("run_id", SETTLED)
def test_times_of_a_run_are_in_order(run_id: str) -> None:
    """A run is created, started and stopped in this order."""
    run = catalog().run(run_id)
    instants = [datetime.fromisoformat(text) for text in times(run)]
    expected = {"PENDING": 1, "STARTING": 1, "RUNNING": 2, "STOPPING": 2}

    assert sorted(instants) == instants
    assert expected.get(str(run["status"]), 3) == len(instants)


def test_times_have_0_3_and_6_fraction_digits() -> None:
    """The runs have the forms of times that HealthOmics uses."""
    everything = [text for run_id in SETTLED for text in times(catalog().run(run_id))]
    digits = {
        len(match[1])
        for text in everything
        if (match := re.fullmatch(r"[-0-9]+T[:0-9]+\.?([0-9]*)Z", text))
    }

    assert {0, 3, 6} == digits


def test_failed_run_has_a_reason() -> None:
    """Only the FAILED run has both a reason and a message."""
    explained = [
        run["status"]
        for run in map(catalog().run, SETTLED)
        if {"failureReason", "statusMessage"} <= run.keys()
    ]

    assert ["FAILED"] == explained


def test_settled_runs_are_the_same_in_every_sandbox() -> None:
    """They don't depend on when the sandbox was started."""
    later = catalog(at=datetime(2030, 1, 1, tzinfo=UTC))

    for run_id in (*SETTLED, "3000001", "3000002", "5000001"):
        assert catalog().run(run_id) == later.run(run_id)


def test_changing_run_of_a_new_sandbox_has_another_uuid() -> None:
    """A new sandbox has the same ids, but other uuids."""
    later = catalog(at=datetime(2030, 1, 1, tzinfo=UTC))

    assert catalog().run("2000001")["uuid"] != later.run("2000001")["uuid"]


def test_changing_runs_are_independent() -> None:
    """Each changing run is created by its own first request."""
    seconds = iter((0.0, 10.0, 10.0))
    runs = Catalog(now=lambda: datetime.now(UTC), monotonic=lambda: next(seconds))
    walks = [runs.run(run_id) for run_id in ("2000001", "2000001", "2999999")]

    assert ["PENDING", "RUNNING", "PENDING"] == [run["status"] for run in walks]


def test_runs_for_load_have_their_own_uuids() -> None:
    """The first and the last id of the range are RUNNING, with different uuids."""
    first, last = (catalog().run(run_id) for run_id in ("5000001", "5999999"))

    assert "RUNNING" == first["status"] == last["status"]
    assert first["uuid"] != last["uuid"]


def test_unmodeled_run_has_unknown_members() -> None:
    """It has new members, nested ones too, and values of other types."""
    run: dict[str, Any] = catalog().run("3000002")

    assert {"costEstimate", "queuePosition"} <= run.keys()
    assert {"engineLogStream", "runLogStream", "taskLogStreams"} == set(
        run["logLocation"]
    )
    assert 1.5 == run["priority"]
    assert 2**53 + 1 == run["parameters"]["seed"]
