"""The metrics that are read from the gateway's state when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple, TypeAlias

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

PREFIX = "healthomics_gateway_"

# Values by the values of the labels.
Values: TypeAlias = Mapping[tuple[str, ...], float]
Reader: TypeAlias = Callable[[], Values]
Merge: TypeAlias = Callable[[Iterable[float]], float]


class Description(NamedTuple):
    """One metric: its labels, its help text, and how it is merged."""

    labels: tuple[str, ...]
    text: str
    # Makes one value of those of several workers. None for a counter: it is summed.
    merge: Merge | None

    @property
    def is_counter(self) -> bool:
        """Return whether it is a counter, not a gauge."""
        return self.merge is None


def earliest(times: Iterable[float]) -> float:
    """Return the earliest of several times; 0 is one that isn't known."""
    return min(filter(None, times), default=0.0)


def last(values: Iterable[float]) -> float:
    """Return the last value: that of the supervisor, which knows all workers."""
    *_, value = values
    return value


# By their names without `PREFIX`; the name of a counter ends in _total.
STATE: Mapping[str, Description] = {
    "build_info": Description(
        ("version", "python_version", "grpc_version"),
        "Always 1; what is running.",
        merge=max,
    ),
    "ready": Description(
        (), "Whether the gateway is ready, as /readyz says.", merge=last
    ),
    "draining": Description(
        (), "Whether the gateway has begun to shut down.", merge=last
    ),
    "quota_tokens": Description(
        ("account",),
        "Calls that HealthOmics may be sent at once, by AWS account.",
        merge=sum,
    ),
    "quota_rate": Description(
        ("account", "scope"),
        "Calls a second that HealthOmics is sent at most at the moment.",
        merge=max,  # each worker reports that of all together
    ),
    "quota_limit": Description(
        ("account", "scope"),
        "The setting quota.tps, or this gateway's share of it without the store.",
        merge=max,
    ),
    "queue_length": Description(
        ("kind",), "Calls, and polls of watches, that wait for their turn.", merge=sum
    ),
    "cache_hits": Description((), "Look-ups that found an answer.", merge=None),
    "cache_misses": Description((), "Look-ups that found no answer.", merge=None),
    "cache_bytes": Description(
        (), "Bytes of memory of the answers in the cache.", merge=sum
    ),
    "cache_entries": Description((), "Runs in the cache.", merge=sum),
    "store_attached": Description(
        (),
        "Whether the shared store is used; 0 while calls go on without it.",
        merge=min,
    ),
    "store_ok": Description(
        (),
        "Whether nothing is wrong with what replicas share, as /readyz?verbose says.",
        merge=min,
    ),
    "store_replicas": Description(
        (), "Replicas that share the quota, as far as this one knows.", merge=max
    ),
    "store_errors": Description(
        (), "Commands that the shared store hasn't done in time.", merge=None
    ),
    "watches": Description((), "Calls of WatchRun under way.", merge=sum),
    "unread_bytes": Description(
        (), "Bytes of answers that clients haven't read yet.", merge=sum
    ),
    "rule_calls": Description(
        ("rule",), "Calls by the rule that applied to their callers.", merge=None
    ),
    "log_lines_lost": Description(
        ("log",), "Lines that were lost because nothing read them.", merge=None
    ),
    "credentials_expiry_timestamp_seconds": Description(
        (),
        "When the gateway's AWS credentials expire; 0 if that isn't known.",
        merge=earliest,
    ),
    "certificate_expiry_timestamp_seconds": Description(
        ("listener",),
        "When the certificate expires; 0 without a certificate.",
        merge=earliest,
    ),
    "jwks_expiry_timestamp_seconds": Description(
        (),
        "Until when the keys that were read last are new; 0 without keys.",
        merge=earliest,
    ),
    "reloads": Description(("outcome",), "Reloads of the settings.", merge=None),
    "last_reload_ok": Description(
        (), "Whether the last reload succeeded, or there was none.", merge=min
    ),
    "last_reload_timestamp_seconds": Description(
        (),
        "When the settings were last reloaded; at first, when they were read.",
        merge=min,
    ),
    "workers": Description(
        (), "Processes that serve calls, and report about it.", merge=sum
    ),
    "worker_restarts": Description(
        (), "Workers that were started in place of one that ended.", merge=None
    ),
    "worker_start_failures": Description(
        (), "Workers that the system started no process for.", merge=None
    ),
    "worker_report_faults": Description(
        (), "Reports of workers that were invalid, and ignored.", merge=None
    ),
}


# How gauges are merged, by their full names.
GAUGES: Mapping[str, Merge] = {
    **{PREFIX + name: row.merge for name, row in STATE.items() if row.merge},
    "process_max_fds": min,  # of each process
    "process_open_fds": sum,
    "process_resident_memory_bytes": sum,
    "process_start_time_seconds": min,
    "process_virtual_memory_bytes": sum,
}


class State(Collector):
    """Reads the state in the event loop's thread, and reports it in any thread."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register with `registry`; until `observe` there are no values."""
        self._readers: Mapping[str, Reader] = {}
        self._values: Mapping[str, Values] = {}
        registry.register(self)

    def observe(self, readers: Mapping[str, Reader]) -> None:
        """Read the values with `readers`, by the names in `STATE`."""
        self._readers = readers

    def read(self) -> None:
        """Read all values. Call it in the event loop's thread."""
        self._values = {name: dict(read()) for name, read in self._readers.items()}

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """Yield the values that were read last."""
        for name, values in self._values.items():
            row = STATE[name]
            make = CounterMetricFamily if row.is_counter else GaugeMetricFamily
            family = make(PREFIX + name, row.text, labels=row.labels)
            for labels, value in values.items():
                family.add_metric(labels, value)
            yield family
