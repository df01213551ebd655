"""The sandbox's scripted runs, by themselves."""

import re
from datetime import UTC, datetime
from typing import Any

import pytest

from healthomics_gateway.sandbox.catalog import Catalog
from healthomics_gateway.sandbox.runs import Members

SETTLED = [str(run_id) for run_id in range(1000001, 1000009)]


def catalog(*, at: datetime = datetime(2026, 1, 2, 3, 4, 5, 678000, UTC)) -> Catalog:
    """Returns the runs of a sandbox whose clock stands still."""
    return Catalog(now=lambda: at, monotonic=lambda: 0.0)


def times(run: Members) -> list[str]:
    """Returns the times that the run has, in the order of its life."""
    names = ("creationTime", "startTime", "stopTime")
    return [str(run[name]) for name in names if name in run]


@pytest.mark.parametrize("run_id", SETTLED)
def test_times_of_a_run_follow_one_another(run_id: str) -> None:
    """A run is created, starts and stops in this order, as far as it has come."""
    run = catalog().run(run_id)
    instants = [datetime.fromisoformat(text) for text in times(run)]
    expected = {"PENDING": 1, "STARTING": 1, "RUNNING": 2, "STOPPING": 2}

    assert sorted(instants) == instants
    assert expected.get(str(run["status"]), 3) == len(instants)


def test_times_have_0_3_and_6_fraction_digits_among_the_runs() -> None:
    """The runs show the spellings of a time that HealthOmics uses."""
    everything = [text for run_id in SETTLED for text in times(catalog().run(run_id))]
    digits = {
        len(match[1])
        for text in everything
        if (match := re.fullmatch(r"[-0-9]+T[:0-9]+\.?([0-9]*)Z", text))
    }

    assert {0, 3, 6} == digits


def test_failed_run_tells_why() -> None:
    """The FAILED run has a reason and a message; no settled run beside it has both."""
    telling = [
        run["status"]
        for run in map(catalog().run, SETTLED)
        if {"failureReason", "statusMessage"} <= run.keys()
    ]

    assert ["FAILED"] == telling


def test_settled_runs_are_the_same_in_every_sandbox() -> None:
    """A settled run doesn't depend on when the sandbox was started."""
    later = catalog(at=datetime(2030, 1, 1, tzinfo=UTC))

    for run_id in (*SETTLED, "3000001", "3000002", "5000001"):
        assert catalog().run(run_id) == later.run(run_id)


def test_walking_run_of_a_new_sandbox_is_another_run() -> None:
    """Ids come again, identities don't: the walk of a new sandbox has its own uuid."""
    later = catalog(at=datetime(2030, 1, 1, tzinfo=UTC))

    assert catalog().run("2000001")["uuid"] != later.run("2000001")["uuid"]


def test_walking_runs_walk_apart() -> None:
    """Each walking run begins when it is first asked for itself."""
    seconds = iter((0.0, 10.0, 10.0))
    runs = Catalog(now=lambda: datetime.now(UTC), monotonic=lambda: next(seconds))
    walks = [runs.run(run_id) for run_id in ("2000001", "2000001", "2999999")]

    assert ["PENDING", "RUNNING", "PENDING"] == [run["status"] for run in walks]


def test_runs_for_load_run_each_under_its_own_identity() -> None:
    """The first and the last id of the range are RUNNING, with uuids of their own."""
    first, last = (catalog().run(run_id) for run_id in ("5000001", "5999999"))

    assert "RUNNING" == first["status"] == last["status"]
    assert first["uuid"] != last["uuid"]


def test_unmodeled_run_has_what_no_model_knows() -> None:
    """New members, nested ones too, and values outside their types are all there."""
    run: dict[str, Any] = catalog().run("3000002")

    assert {"costEstimate", "queuePosition"} <= run.keys()
    assert {"engineLogStream", "runLogStream", "taskLogStreams"} == set(
        run["logLocation"]
    )
    assert 1.5 == run["priority"]
    assert 2**53 + 1 == run["parameters"]["seed"]
