"""Keeps what the supervisor knows about each worker, and merges it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from healthomics_gateway.app.aggregation.readiness import (
    MergedReadiness,
    WorkerReadiness,
)
from healthomics_gateway.app.aggregation.report import (
    InvalidReportError,
    Report,
    read_report,
)
from healthomics_gateway.app.statusz.blank import blank
from healthomics_gateway.app.statusz.merging import ended, merged
from healthomics_gateway.app.statusz.shape import Snapshot, WorkerState
from healthomics_gateway.telemetry.metrics.merging import MergedMetrics
from healthomics_gateway.telemetry.metrics.supervisor import SupervisorMetrics

# How long a worker that doesn't answer counts as it was: its event loop may be busy.
KNOWN_SECONDS = 10.0

_log = structlog.get_logger("workers")


@dataclass(slots=True)
class _Worker:
    pid: int | None = None  # None while it isn't running
    starts: int = 0
    end: str = ""  # how the process before has ended
    report: Report | None = None  # the newest of this process
    reported_at: float = 0.0
    is_silent: bool = False  # it hasn't answered in time

    @property
    def restarts(self) -> int:
        return max(self.starts - 1, 0)


class WorkerReports:
    """The newest report of each worker, and what all of them say together.

    Call all methods in the event loop's thread.
    """

    def __init__(
        self,
        numbers: Iterable[int],
        *,
        admin_address: Callable[[], str],
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Begin with workers of these numbers, none of which has been started."""
        self._workers = {each: _Worker() for each in numbers}
        self._admin_address = admin_address
        self._clock, self._now = clock, now
        self._started, self._begun = now(), clock()
        self._heard_at = self._begun  # of any worker
        self._past = blank(self._started)  # the state of workers that have ended
        self._invalid = 0  # reports
        self._failures = 0  # of starts
        self.readiness = MergedReadiness(
            self._known_readiness,
            faults=self._process_faults,
            silent_seconds=lambda: self._clock() - self._heard_at,
        )
        self.metrics = MergedMetrics(self._known, own=self._own_metrics().families)

    def started(self, number: int, pid: int) -> None:
        """Note that a worker's process has been started."""
        worker = self._workers[number]
        worker.pid, worker.starts = pid, worker.starts + 1

    def ended(self, number: int, how: str) -> None:
        """Note that a worker's process has ended, such as `ended by SIGKILL`."""
        worker = self._workers[number]
        if worker.report:
            self._past = ended(worker.report.status, self._past)
            self.metrics.end(number)
        self._workers[number] = _Worker(starts=worker.starts, end=how)

    def not_started(self, number: int, why: str) -> None:
        """Note that the system has started no process for a worker."""
        self._failures += 1
        self.ended(number, why)

    def put(self, number: int, data: object) -> None:
        """Set the newest report of a worker; one of another shape is ignored."""
        worker = self._workers[number]
        if worker.pid is None:
            return  # it was made before the end of the process
        try:
            report = read_report(data)
        except InvalidReportError as error:
            self._invalid += 1
            _log.warning("worker_report_invalid", worker=number, why=str(error))
            return
        worker.report, worker.is_silent = report, False
        worker.reported_at = self._heard_at = self._clock()
        self.metrics.put(number, report.metrics)

    def missed(self, number: int) -> None:
        """Note that a worker hasn't answered in time: its last report is used."""
        self._workers[number].is_silent = True

    def running(self) -> dict[int, int]:
        """Return the process ids of the workers that run, by their numbers."""
        return {at: each.pid for at, each in self._workers.items() if each.pid}

    def is_silent(self, number: int) -> bool:
        """Return whether a worker hasn't answered in time since its last report."""
        return self._workers[number].is_silent

    async def snapshot(self) -> Snapshot:
        """Return what the status page shows."""
        readiness, reports = self.readiness, self._reports()
        return merged(
            {number: each.status for number, each in reports.items()},
            self._past,
            now=self._now(),
            started=self._started,
            uptime_seconds=round(self._clock() - self._begun, 3),
            ready=not readiness.why_not,
            reason=readiness.why_not,
            live=not readiness.is_dead,
            draining=readiness.is_draining,
            parts=readiness.parts,
            workers=[self._state(number) for number in self._workers],
            admin_address=self._admin_address(),
        )

    def _own_metrics(self) -> SupervisorMetrics:
        return SupervisorMetrics(
            {
                "ready": lambda: {(): float(not self.readiness.why_not)},
                "draining": lambda: {(): float(self.readiness.is_draining)},
                "workers": lambda: {(): 0.0},  # each worker reports itself as one
                "worker_restarts": lambda: {
                    (): sum(each.restarts for each in self._workers.values())
                },
                "worker_start_failures": lambda: {(): self._failures},
                "worker_report_faults": lambda: {(): self._invalid},
            }
        )

    def _reports(self) -> dict[int, Report]:
        """Return the newest reports of the workers that run."""
        return {at: each.report for at, each in self._workers.items() if each.report}

    def _known(self) -> list[int]:
        """Return the numbers of the workers that have reported lately."""
        since = self._clock() - KNOWN_SECONDS
        return [at for at in self._reports() if self._workers[at].reported_at >= since]

    def _known_readiness(self) -> Mapping[int, WorkerReadiness]:
        reports = self._reports()
        return {
            at: WorkerReadiness(
                why_not=reports[at].why_not,
                is_dead=reports[at].is_dead,
                parts=reports[at].parts,
            )
            for at in self._known()
        }

    def _process_faults(self) -> list[str]:
        """Return what is wrong with the processes of the workers."""
        return [
            f"worker {number} {fault}"
            for number, worker in self._workers.items()
            if (fault := self._fault(worker))
        ]

    def _fault(self, worker: _Worker) -> str:
        if self.readiness.is_draining and worker.pid is None:
            return f"has {worker.end}" if worker.end else ""
        if worker.report is None:
            again = f" again ({worker.end})" if worker.end else ""
            return f"is starting{again}"
        if worker.is_silent:
            seconds = round(self._clock() - worker.reported_at)
            return f"hasn't answered for {seconds} s"
        return ""

    def _state(self, number: int) -> WorkerState:
        worker = self._workers[number]
        known = self._known_readiness().get(number)
        report = worker.report
        status = report.status if report else None
        since = self._clock() - worker.reported_at
        return WorkerState(
            worker=number,
            pid=worker.pid,
            ready=known is not None and not known.why_not,
            reason=known.why_not if known else "",
            fault=self._fault(worker),
            calls=status.calls.open if status else None,
            watches=status.watches.open if status else None,
            memory_bytes=report.memory_bytes if report else None,
            uptime_seconds=round(status.uptime_seconds + since, 3) if status else None,
            restarts=worker.restarts,
        )
