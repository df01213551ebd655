"""Summarize the samples: medians, ratios of servers, and whether the goals are met."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from statistics import median

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from common.programs import Footprint

# Pairs of servers, with the maximum ratio of their CPU per call.
GOALS = {
    ("missed", "echo"): 2.6,
    ("missed", "boto3"): 0.4,
    ("remembered", "echo"): 1.45,
    ("remembered", "unmeasured"): 1.06,
    ("unsampled", "remembered"): 1.03,
    ("two-pinned", "pinned"): 1.1,
    ("two-steady", "steady"): 1.1,
}
# Servers with a supervisor.
WORKERS = ("two-missed", "two-remembered", "two-pinned", "two-steady")
PEERS = ("echo", "boto3")


@dataclass(frozen=True, slots=True)
class Sample:
    """The measurements of one load of one server."""

    round: int
    server: str
    calls: int
    seconds: float
    cpu_seconds: float  # of the server
    first_cpu_seconds: float  # of its first process, which supervises the workers
    upstream_cpu_seconds: float

    @property
    def calls_per_second(self) -> float:
        """Answered calls per second."""
        return self.calls / self.seconds

    @property
    def cpu_us(self) -> float:
        """CPU time per call, in microseconds."""
        return self.cpu_seconds / self.calls * 1e6

    @property
    def first_cpu_us(self) -> float:
        """CPU time of the first process per call, in microseconds."""
        return self.first_cpu_seconds / self.calls * 1e6

    @property
    def upstream_busy(self) -> float:
        """The share of one core that the upstream used. Range: [0, 1]."""
        return self.upstream_cpu_seconds / self.seconds


class Report:
    """The figures of all samples."""

    def __init__(
        self, samples: Iterable[Sample], footprints: Mapping[str, Footprint]
    ) -> None:
        self._footprints = footprints
        self._by_server: dict[str, list[Sample]] = {}
        for sample in samples:
            self._by_server.setdefault(sample.server, []).append(sample)

    def summary(self) -> dict[str, dict[str, float]]:
        """Return the figures of each server, by its name."""
        return {server: self._figures(server) for server in self._by_server}

    def print(self, console: Console) -> None:
        """Print the table, and whether each goal between measured servers is met."""
        table = Table(
            title="GetRun: medians over all rounds", box=SIMPLE, padding=(0, 1, 0, 0)
        )
        table.add_column("server", no_wrap=True)
        for heading in ("calls/s", "CPU µs/call", "min..max"):
            table.add_column(heading, justify="right", no_wrap=True)
        for other in PEERS:
            table.add_column(f"CPU to {other}", justify="right")
        table.add_column("upstream busy", justify="right", min_width=len("upstream"))
        for server, figures in self.summary().items():
            table.add_row(server, *_cells(figures))
        console.print(table)
        for line in (*self._supervisors(), *self._memory()):
            console.print(line, soft_wrap=True)
        for (server, other), maximum in GOALS.items():
            ratio = self._ratio(server, other)
            if ratio is not None:
                verdict = "met" if ratio <= maximum else "not met"
                console.print(
                    f"goal: {server} <= {maximum} x {other}: {ratio:.2f}, {verdict}"
                )

    def _supervisors(self) -> Iterator[str]:
        for server in WORKERS:
            if samples := self._by_server.get(server):
                own = median(sample.first_cpu_us for sample in samples)
                yield f"supervisor of {server}: {own:.1f} µs of CPU for each call"

    def _memory(self) -> Iterator[str]:
        for server, each in self._footprints.items():
            line = f"memory of {server}: {each.pss_mib:.0f} MiB"
            if server in WORKERS:
                workers = ", ".join(f"{mib:.0f}" for mib in each.workers_mib)
                line += (
                    f"; of each worker alone {workers} MiB;"
                    f" supervisor and zygote {each.others_mib:.0f} MiB"
                )
            yield line

    def _figures(self, server: str) -> dict[str, float]:
        samples = self._by_server[server]
        costs = [sample.cpu_us for sample in samples]
        figures = {
            "calls_per_second": median(sample.calls_per_second for sample in samples),
            "cpu_us": median(costs),
            "cpu_us_min": min(costs),
            "cpu_us_max": max(costs),
            "upstream_busy": median(sample.upstream_busy for sample in samples),
        }
        for other in PEERS:
            ratio = self._ratio(server, other)
            if ratio is not None:
                figures[f"cpu_to_{other}"] = ratio
        return figures

    def _ratio(self, server: str, other: str) -> float | None:
        """Return the median of the ratios of all rounds, or `None` without samples.

        A slow machine slows both servers of a round, so the ratio within a round is
        more stable than a ratio of medians.
        """
        samples, others = self._by_server.get(server), self._by_server.get(other)
        if not samples or not others:
            return None
        pairs = zip(samples, others, strict=True)
        return median(one.cpu_us / two.cpu_us for one, two in pairs)


def _cells(figures: dict[str, float]) -> Iterator[str]:
    yield f"{figures['calls_per_second']:,.0f}"
    yield f"{figures['cpu_us']:,.0f}"
    yield f"{figures['cpu_us_min']:,.0f}..{figures['cpu_us_max']:,.0f}"
    for other in PEERS:
        ratio = figures.get(f"cpu_to_{other}")
        yield "" if ratio is None else f"{ratio:.2f}"
    yield f"{figures['upstream_busy']:.0%}"
