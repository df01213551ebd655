"""All metrics of a gateway, in a registry of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)

from healthomics_gateway.telemetry.metrics.calls import SECONDS, CallMetrics
from healthomics_gateway.telemetry.metrics.parts import (
    NO_COUNTS,
    NOTHING,
    AttemptMetrics,
    Count,
    Distribution,
    QueueMetrics,
    RuleCalls,
    StoreMetrics,
    WatchMetrics,
)
from healthomics_gateway.telemetry.metrics.state import PREFIX, State

# Seconds: a cached answer may be hours old, and a poll comes every few seconds.
AGE_SECONDS = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0)
# A replica waits 0.05 s for the store.
STORE_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
# Switches off a second series for each counter and histogram, for all of the process:
# when it began to count, which process_start_time_seconds says too.
disable_created_metrics()  # type: ignore[no-untyped-call]  # has no type in the package


class Metrics:
    """The metrics of a gateway, by the part that sets them."""

    calls: CallMetrics | None = None  # none if the metrics are off
    attempts = AttemptMetrics()
    queue = QueueMetrics()
    answer_age_seconds: Distribution = NOTHING
    shared_fetches: Count = NOTHING
    watch = WatchMetrics()
    store = StoreMetrics()
    refusals: Mapping[str, Count] = NO_COUNTS  # by reason

    def __init__(
        self,
        *,
        reasons: Iterable[str] = (),
        is_on: bool = True,
    ) -> None:
        """Register all metrics; `reasons` are the names of all errors.

        If it isn't on, nothing is measured.
        """
        self.registry = CollectorRegistry()
        self.state = State(self.registry)
        self.rules = RuleCalls()
        if is_on:
            self._register(tuple(reasons))

    def read(self) -> None:
        """Read the state. Call it in the event loop's thread."""
        self.state.read()

    def _register(self, reasons: tuple[str, ...]) -> None:
        registry = self.registry
        ProcessCollector(registry=registry)
        GCCollector(registry=registry)
        self.calls = CallMetrics(registry)
        self.attempts = _attempts(registry, reasons)
        self.queue = _queue(registry)
        self.answer_age_seconds = _histogram(
            registry,
            "answer_age_seconds",
            "Age of the answers that the cache or the store returned.",
            buckets=AGE_SECONDS,
        )
        self.shared_fetches = _counter(
            registry, "shared_fetches", "Calls that joined another call's fetch."
        )
        self.watch = _watch(registry)
        self.store = _store(registry)
        refusals = _counter(
            registry,
            "refusals",
            "Calls that ended in an error of the gateway's own.",
            "reason",
        )
        self.refusals = {each: refusals.labels(each) for each in reasons}


def _counter(
    registry: CollectorRegistry, name: str, text: str, *labels: str
) -> Counter:
    return Counter(PREFIX + name, text, labels, registry=registry)


def _histogram(
    registry: CollectorRegistry,
    name: str,
    text: str,
    *labels: str,
    buckets: tuple[float, ...] = SECONDS,
) -> Histogram:
    return Histogram(PREFIX + name, text, labels, buckets=buckets, registry=registry)


def _attempts(registry: CollectorRegistry, reasons: tuple[str, ...]) -> AttemptMetrics:
    attempts = _counter(
        registry, "upstream_attempts", "Attempts at HealthOmics.", "outcome", "reason"
    )
    seconds = _histogram(
        registry,
        "upstream_attempt_seconds",
        "Time of an attempt at HealthOmics, from its turn to its answer.",
        "outcome",
    )
    return AttemptMetrics(
        ok=attempts.labels("ok", ""),
        errors={each: attempts.labels("error", each) for each in ("", *reasons)},
        ok_seconds=seconds.labels("ok"),
        error_seconds=seconds.labels("error"),
    )


def _queue(registry: CollectorRegistry) -> QueueMetrics:
    seconds = _histogram(
        registry, "queue_wait_seconds", "Time until a call had its turn.", "kind"
    )
    return QueueMetrics(
        call_seconds=seconds.labels("call"), poll_seconds=seconds.labels("poll")
    )


def _watch(registry: CollectorRegistry) -> WatchMetrics:
    polls = _counter(registry, "watch_polls", "Polls of watched runs.", "outcome")
    return WatchMetrics(
        polls_ok=polls.labels("ok"),
        polls_failed=polls.labels("error"),
        changes=_counter(registry, "watch_changes", "Changes of runs delivered."),
        change_delay_seconds=_histogram(
            registry,
            "watch_change_delay_seconds",
            "Time from the read that saw a change to its delivery.",
        ),
    )


def _store(registry: CollectorRegistry) -> StoreMetrics:
    return StoreMetrics(
        seconds=_histogram(
            registry,
            "store_seconds",
            "Time of a command to the shared store.",
            buckets=STORE_SECONDS,
        ),
        answers=_counter(registry, "store_answers", "Answers found in the store."),
        values_rejected=_counter(
            registry, "store_values_rejected", "Values of the store that aren't valid."
        ),
    )
