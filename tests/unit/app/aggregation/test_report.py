"""The reports of workers: read exactly, and refused if they have another shape."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from healthomics_gateway.app.aggregation.report import (
    InvalidReportError,
    Report,
    read_report,
)
from healthomics_gateway.app.aggregation.reporter import Reporter
from healthomics_gateway.app.statusz.bounds import MAX_ITEMS
from testkit.builders import Sandbox, aws_at, calling, gateway, get_run
from testkit.reports import READY, report
from testkit.snapshots import hostile, loaded, quota, slot


@pytest.mark.parametrize("state", [loaded(), hostile()], ids=["load", "hostile"])
def test_report_is_read_as_it_was_made(state: Any) -> None:
    """Nothing is lost or changed between a worker and the supervisor."""
    made = Report(
        metrics=[], parts=list(READY), why_not="A", is_dead=True, status=state
    )
    read = read_report(orjson.loads(orjson.dumps(made)))

    assert orjson.dumps(made) == orjson.dumps(read)
    assert state.errors.newest[0].time == read.status.errors.newest[0].time
    assert read.memory_bytes is None


@pytest.mark.parametrize(
    ("data", "place"),
    [
        pytest.param(None, ": ", id="nothing"),
        pytest.param([], ": ", id="list"),
        pytest.param({}, "metrics: ", id="empty"),
        pytest.param(report() | {"why_not": 1}, "why_not: ", id="number"),
        pytest.param(report() | {"metrics": [{}]}, "metrics.0.name: ", id="family"),
        pytest.param(
            report() | {"status": report()["status"] | {"calls": None}},
            "status.calls: ",
            id="status",
        ),
        pytest.param(
            report() | {"parts": [report()["parts"][0]] * (MAX_ITEMS + 1)},
            "it has too many items",
            id="parts",
        ),
        pytest.param(
            report() | {"metrics": report()["metrics"] * 200},
            "it has too many items",
            id="metrics",
        ),
        pytest.param(
            report(status=loaded(quota=[quota(*[slot(0)] * 61)])),
            "it has too many items",
            id="slots",
        ),
    ],
)
def test_report_of_another_shape_is_refused(data: object, place: str) -> None:
    """The error says what is wrong first, without the value."""
    with pytest.raises(InvalidReportError) as caught:
        read_report(data)

    assert str(caught.value).startswith(place)


async def test_worker_reports_all_of_its_state() -> None:
    """A gateway's report has its metrics, its readiness and its status page."""
    async with (
        Sandbox() as sandbox,
        gateway(aws_at(sandbox.url)) as served,
        calling(served) as stub,
    ):
        await get_run(stub, "1000003")
        reporter = Reporter(served.parts)
        first, second = await asyncio.gather(reporter.report(), reporter.report())
    found = read_report(first)

    assert first is second
    assert ("", False) == (found.why_not, found.is_dead)
    assert ["listeners", "aws", "upstream"] == [each.name for each in found.parts]
    assert 1 == found.status.quota[0].used
    assert 2**20 < (found.memory_bytes or 0)
    (started,) = (each for each in found.metrics if each.name == "grpc_server_started")
    assert 1.0 == sum(
        each.value for each in started.samples if each.labels["grpc_method"] == "GetRun"
    )
