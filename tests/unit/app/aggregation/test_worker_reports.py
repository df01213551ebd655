"""What the supervisor knows about each worker, and shows of all of them."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from structlog.testing import capture_logs

from healthomics_gateway.app.aggregation.worker_reports import (
    KNOWN_SECONDS,
    WorkerReports,
)
from healthomics_gateway.app.statusz.page import page
from healthomics_gateway.app.statusz.rendering import as_json
from healthomics_gateway.telemetry.metrics.exposition import Exposition
from testkit.clocks import MonotonicClock
from testkit.metrics import Scrape, parsed
from testkit.reports import report, unready
from testkit.snapshots import NOW, loaded


class Supervised:
    """Reports of two workers, at a time that the test sets."""

    def __init__(self) -> None:
        """Begin before the workers are started."""
        self.clock = MonotonicClock(100.0)
        self.reports = WorkerReports(
            (1, 2),
            admin_address=lambda: "127.0.0.1:9464",
            clock=self.clock,
            now=lambda: NOW,
        )

    def start(self, **reports: dict[str, Any]) -> None:
        """Start both workers, and let each report."""
        for number, name in enumerate(("one", "two"), start=1):
            self.reports.started(number, 4200 + number)
            self.reports.put(number, reports.get(name, report()))

    async def metrics(self) -> Scrape:
        """Return the page of the metrics."""
        body, _ = await Exposition(self.reports.metrics).page("")
        return parsed(body.decode())

    @property
    def workers_line(self) -> str:
        """The line about the workers' processes."""
        return self.reports.readiness.lines[-1]


async def test_gateway_is_unready_until_a_worker_has_reported() -> None:
    """At the start all pages can be made, and say that workers are starting."""
    supervised = Supervised()
    reports = supervised.reports
    before = supervised.workers_line
    reports.started(1, 4201)
    started = supervised.workers_line
    found = await supervised.metrics()
    state = await reports.snapshot()
    reports.put(1, report())

    faults = "worker 1 is starting; worker 2 is starting"
    assert f"workers: no worker serves: {faults}" == before == started
    assert (0, 0, 0) == (
        found.value("ready"),
        found.value("workers"),
        found.value("worker_restarts_total"),
    )
    assert (False, "no worker serves") == (state.ready, state.reason)
    assert "worker 1 process 4201 not ready is starting" in words(page(state))
    assert ("", "workers: worker 2 is starting") == (
        reports.readiness.why_not,
        supervised.workers_line,
    )


def words(html: str) -> str:
    """Return the text of a page without its elements."""
    text, is_inside = [], False
    for each in html:
        is_inside = (is_inside or each == "<") and each != ">"
        text.append(" " if is_inside or each == ">" else each)
    return " ".join("".join(text).split())


async def test_worker_that_ended_is_shown_until_its_next_report() -> None:
    """Its counts stay, its state is gone, and it is named with how it ended."""
    supervised = Supervised()
    reports = supervised.reports
    supervised.start(one=report(calls=3.0, status=loaded()), two=report(calls=4.0))
    reports.ended(1, "ended by SIGKILL")
    gone, found, state = (
        supervised.workers_line,
        await supervised.metrics(),
        await reports.snapshot(),
    )
    reports.started(1, 4301)
    starting = supervised.workers_line
    reports.put(1, report(calls=1.0))
    again = await supervised.metrics()

    line = "workers: worker 1 is starting again (ended by SIGKILL)"
    assert [line, line, "workers: ok"] == [gone, starting, supervised.workers_line]
    assert 7 == found.values["calls_total", frozenset()]
    assert 1 == found.value("workers")
    assert (90, 0) == (state.cache.hits, state.watches.open)
    assert [None, 4202] == [each.pid for each in state.workers]
    assert 8 == again.values["calls_total", frozenset()]
    assert (2, 1) == (again.value("workers"), again.value("worker_restarts_total"))


async def test_failed_starts_of_a_worker_are_counted() -> None:
    """They aren't restarts, and the last one's reason is shown."""
    supervised = Supervised()
    reports = supervised.reports
    supervised.start()
    reports.ended(1, "ended by SIGKILL")
    reports.not_started(1, "out of memory")
    reports.not_started(1, "no more processes")
    found = await supervised.metrics()

    line = "workers: worker 1 is starting again (no more processes)"
    assert line == supervised.workers_line
    assert (2, 0) == (
        found.value("worker_start_failures_total"),
        found.value("worker_restarts_total"),
    )


async def test_worker_that_is_silent_is_marked_and_then_left_out() -> None:
    """Its last report is used for 10 s; then it isn't ready and has no gauges."""
    supervised = Supervised()
    reports = supervised.reports
    supervised.start(two=unready())
    reports.missed(1)
    supervised.clock.now += KNOWN_SECONDS
    reports.put(2, unready())
    marked = supervised.workers_line, reports.readiness.why_not
    supervised.clock.now += 0.1
    left_out = await supervised.metrics()
    state = await reports.snapshot()
    reports.put(1, report())

    assert ("workers: worker 1 hasn't answered for 10 s", "") == marked
    assert (0, 1) == (left_out.value("ready"), left_out.value("workers"))
    assert [False, False] == [each.ready for each in state.workers]
    assert ["hasn't answered for 10 s", ""] == [each.fault for each in state.workers]
    assert ("workers: ok", "") == (supervised.workers_line, reports.readiness.why_not)


async def test_invalid_report_is_ignored_and_counted() -> None:
    """The report before stays, and the log says what was wrong."""
    supervised = Supervised()
    supervised.start(one=report(calls=3.0))
    with capture_logs() as logs:
        supervised.reports.put(1, {"metrics": []})
    found = await supervised.metrics()

    assert 3 == found.values["calls_total", frozenset()]
    assert 1 == found.value("worker_report_faults_total")
    assert [("worker_report_invalid", 1)] == [
        (each["event"], each["worker"]) for each in logs
    ]


async def test_report_that_arrives_after_the_end_is_ignored() -> None:
    """A report of a process that has ended counts nothing twice."""
    supervised = Supervised()
    supervised.start(one=report(calls=3.0))
    supervised.reports.ended(1, "exited with 70")
    supervised.reports.put(1, report(calls=3.0))

    assert 3 == (await supervised.metrics()).values["calls_total", frozenset()]


async def test_worker_that_ended_before_its_first_report_is_named() -> None:
    """The end of a worker that has reported nothing is shown too."""
    supervised = Supervised()
    supervised.reports.started(1, 4201)
    supervised.reports.ended(1, "exited with 1")

    assert "worker 1 is starting again (exited with 1)" in supervised.workers_line


async def test_draining_gateway_names_the_workers_that_have_ended() -> None:
    """During a shutdown a worker that has ended isn't started again."""
    supervised = Supervised()
    supervised.start()
    supervised.reports.readiness.drain()
    supervised.reports.ended(1, "exited with 0")
    state = await supervised.reports.snapshot()
    found = await supervised.metrics()

    assert "workers: worker 1 has exited with 0" == supervised.workers_line
    assert (True, "GATEWAY_DRAINING") == (state.draining, state.reason)
    assert (0, 1) == (found.value("ready"), found.value("draining"))


async def test_status_page_has_a_section_of_workers() -> None:
    """Each worker has a row, in both formats, and the process that serves the page."""
    supervised = Supervised()
    supervised.start(one=report(status=loaded()), two=unready())
    supervised.clock.now += 5.0
    state = await supervised.reports.snapshot()
    as_data = json.loads(as_json(state))
    text = words(page(state))

    assert (5.0, "127.0.0.1:9464") == (state.uptime_seconds, state.admin_address)
    assert {
        "worker": 1,
        "pid": 4201,
        "ready": True,
        "reason": "",
        "fault": "",
        "calls": 12,
        "watches": 1200,
        "memory_bytes": 90 * 2**20,
        "uptime_seconds": 7505.0,
        "restarts": 0,
    } == as_data["workers"][0]
    assert "worker 1 process 4201 ready 12 1,200 90 MiB 2h 5m 0" in text
    assert "worker 2 process 4202 not ready GATEWAY_CREDENTIALS_INVALID" in text
    assert "aws (worker 2) not ready" in text
    assert "restarts worker 1" in text


def test_supervisor_needs_no_grpc() -> None:
    """The modules that merge reports and serve pages don't import gRPC or boto3."""
    program = (
        "import sys, healthomics_gateway.app.aggregation.report_poller,"
        " healthomics_gateway.app.admin;"
        "print(sorted({'grpc', 'boto3', 'botocore'} & set(sys.modules)))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert "[]\n" == ended.stdout
