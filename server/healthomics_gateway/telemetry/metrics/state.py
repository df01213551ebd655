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


class Description(NamedTuple):
    """One metric: its labels and its help text."""

    labels: tuple[str, ...]
    text: str
    is_counter: bool = False


# By their names without `PREFIX`; the name of a counter ends in _total.
STATE: Mapping[str, Description] = {
    "build_info": Description(
        ("version", "python_version", "grpc_version"), "Always 1; what is running."
    ),
    "ready": Description((), "Whether the gateway is ready, as /readyz says."),
    "draining": Description((), "Whether the gateway has begun to shut down."),
    "quota_tokens": Description(
        ("account",), "Calls that HealthOmics may be sent at once, by AWS account."
    ),
    "quota_rate": Description(
        ("account", "scope"),
        "Calls a second that HealthOmics is sent at most at the moment.",
    ),
    "quota_limit": Description(
        ("account", "scope"),
        "The setting quota.tps, or this gateway's share of it without the store.",
    ),
    "queue_length": Description(
        ("kind",), "Calls, and polls of watches, that wait for their turn."
    ),
    "cache_hits": Description((), "Look-ups that found an answer.", is_counter=True),
    "cache_misses": Description((), "Look-ups that found no answer.", is_counter=True),
    "cache_bytes": Description((), "Bytes of memory of the answers in the cache."),
    "cache_entries": Description((), "Runs in the cache."),
    "store_attached": Description(
        (), "Whether the shared store is used; 0 while calls go on without it."
    ),
    "store_ok": Description(
        (),
        "Whether nothing is wrong with what replicas share, as /readyz?verbose says.",
    ),
    "store_replicas": Description(
        (), "Replicas that share the quota, as far as this one knows."
    ),
    "store_errors": Description(
        (), "Commands that the shared store hasn't done in time.", is_counter=True
    ),
    "watches": Description((), "Calls of WatchRun under way."),
    "unread_bytes": Description((), "Bytes of answers that clients haven't read yet."),
    "rule_calls": Description(
        ("rule",), "Calls by the rule that applied to their callers.", is_counter=True
    ),
    "log_lines_lost": Description(
        ("log",), "Lines that were lost because nothing read them.", is_counter=True
    ),
    "credentials_expiry_timestamp_seconds": Description(
        (), "When the gateway's AWS credentials expire; 0 if that isn't known."
    ),
    "certificate_expiry_timestamp_seconds": Description(
        ("listener",), "When the certificate expires; 0 without a certificate."
    ),
    "jwks_expiry_timestamp_seconds": Description(
        (), "Until when the keys that were read last are new; 0 without keys."
    ),
    "reloads": Description(("outcome",), "Reloads of the settings.", is_counter=True),
    "last_reload_ok": Description(
        (), "Whether the last reload succeeded, or there was none."
    ),
    "last_reload_timestamp_seconds": Description(
        (), "When the settings were last reloaded; at first, when they were read."
    ),
    "workers": Description((), "Processes that serve calls, and report about it."),
    "worker_restarts": Description(
        (), "Workers that were started in place of one that ended.", is_counter=True
    ),
    "worker_start_failures": Description(
        (), "Workers that the system started no process for.", is_counter=True
    ),
    "worker_report_faults": Description(
        (), "Reports of workers that were invalid, and ignored.", is_counter=True
    ),
}


def earliest(times: Iterable[float]) -> float:
    """Return the earliest of several times; 0 is one that isn't known."""
    return min(filter(None, times), default=0.0)


def last(values: Iterable[float]) -> float:
    """Return the last value: that of the supervisor, which knows all workers."""
    *_, value = values
    return value


# How the values of a gauge's series in several workers become one, by its full name.
# Counters and histograms are summed.
GAUGES: Mapping[str, Callable[[Iterable[float]], float]] = {
    PREFIX + "build_info": max,
    PREFIX + "ready": last,
    PREFIX + "draining": last,
    PREFIX + "quota_tokens": sum,
    PREFIX + "quota_rate": max,  # each worker reports that of all together
    PREFIX + "quota_limit": max,
    PREFIX + "queue_length": sum,
    PREFIX + "cache_bytes": sum,
    PREFIX + "cache_entries": sum,
    PREFIX + "store_attached": min,
    PREFIX + "store_ok": min,
    PREFIX + "store_replicas": max,
    PREFIX + "watches": sum,
    PREFIX + "unread_bytes": sum,
    PREFIX + "credentials_expiry_timestamp_seconds": earliest,
    PREFIX + "certificate_expiry_timestamp_seconds": earliest,
    PREFIX + "jwks_expiry_timestamp_seconds": earliest,
    PREFIX + "last_reload_ok": min,
    PREFIX + "last_reload_timestamp_seconds": min,
    PREFIX + "workers": sum,
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
