"""Lets the metrics read the state of a gateway's parts."""

from __future__ import annotations

import platform
import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime

import grpc

from healthomics_gateway.app.parts import LostLines, Parts
from healthomics_gateway.app.reload_state import Reloads
from healthomics_gateway.app.sharing import Sharing
from healthomics_gateway.app.waiting import CALL, POLL, waiting
from healthomics_gateway.app.wiring import UpstreamParts
from healthomics_gateway.auth.keyring import Keyring
from healthomics_gateway.runs.cache import Cache
from healthomics_gateway.services.readiness import Readiness
from healthomics_gateway.telemetry.metrics.state import Reader, Values
from healthomics_gateway.version import VERSION


def observe(parts: Parts) -> None:
    """Let the metrics read the state of the parts whenever they are asked for."""
    parts.observability.metrics.state.observe(readers_of(parts))


def readers_of(parts: Parts) -> Mapping[str, Reader]:
    """Return the readers of all metrics of the state, by their names."""
    observability, bounds = parts.observability, parts.bounds
    rules = observability.metrics.rules
    return {
        "build_info": _build_info,
        **_of_readiness(parts.readiness),
        **_of_quota(parts),
        **_of_cache(parts.cache),
        **_of_sharing(parts.sharing),
        "watches": _one(lambda: bounds.watching.inside),
        "unread_bytes": _one(lambda: bounds.send_buffer.kept_bytes),
        "rule_calls": lambda: _labelled(rules.numbers),
        "log_lines_lost": lambda: _lost(observability.lost_lines),
        **_of_expiries(parts),
        **_of_reloads(parts.reloads),
        "workers": _one(lambda: 1),
        "worker_restarts": _one(lambda: 0),
        "worker_start_failures": _one(lambda: 0),
        "worker_report_faults": _one(lambda: 0),
    }


def _one(read: Callable[[], float]) -> Reader:
    """Return the reader of a metric without labels."""
    return lambda: {(): float(read())}


def _labelled(numbers: Mapping[str, float]) -> Values:
    """Return the values of a metric with one label."""
    return {(label,): number for label, number in numbers.items()}


def _build_info() -> Values:
    return {(VERSION, platform.python_version(), grpc.__version__): 1.0}


def _of_readiness(readiness: Readiness) -> Mapping[str, Reader]:
    return {
        "ready": _one(lambda: not readiness.why_not),
        "draining": _one(lambda: readiness.is_draining),
    }


def _of_quota(parts: Parts) -> Mapping[str, Reader]:
    upstream = parts.upstream
    schedulers = upstream.schedulers
    return {
        "quota_tokens": lambda: {
            (account,): each.tokens for account, each in schedulers.by_account.items()
        },
        "quota_rate": lambda: {
            (account, parts.quota_scope): each.rate
            for account, each in schedulers.by_account.items()
        },
        "quota_limit": lambda: {
            (account, parts.quota_scope): each.tps
            for account, each in schedulers.by_account.items()
        },
        "queue_length": lambda: _queue_length(upstream),
    }


def _queue_length(upstream: UpstreamParts) -> Values:
    """Return how many wait for their turn, for all accounts together."""
    lengths = Counter({CALL: 0, POLL: 0})
    for each in waiting(upstream).values():
        lengths.update(each)
    return _labelled(lengths)


def _of_cache(cache: Cache) -> Mapping[str, Reader]:
    return {
        "cache_hits": _one(lambda: cache.hits),
        "cache_misses": _one(lambda: cache.misses),
        "cache_bytes": _one(lambda: cache.held_bytes),
        "cache_entries": _one(lambda: cache.runs),
    }


def _of_sharing(sharing: Sharing | None) -> Mapping[str, Reader]:
    """Return readers that have values only if there is a store."""

    def of(read: Callable[[Sharing], float]) -> Reader:
        return lambda: {(): float(read(sharing))} if sharing else {}

    return {
        "store_attached": of(lambda each: each.replica.is_attached),
        "store_ok": of(lambda each: not each.fault()),
        "store_replicas": of(lambda each: each.replica.replicas),
        "store_errors": of(lambda each: each.replica.errors),
    }


def _of_expiries(parts: Parts) -> Mapping[str, Reader]:
    return {
        "credentials_expiry_timestamp_seconds": _one(
            lambda: _timestamp(parts.upstream.provider.expires_at)
        ),
        "certificate_expiry_timestamp_seconds": lambda: {
            (address,): _timestamp(expires)
            for address, expires in parts.listeners.certificate_expiries
        },
        "jwks_expiry_timestamp_seconds": _one(lambda: _keys_expiry(parts.keyring)),
    }


def _timestamp(when: datetime | None) -> float:
    """Return the seconds since 1970, or 0 without a time."""
    return when.timestamp() if when else 0.0


def _keys_expiry(keyring: Keyring | None) -> float:
    seconds = keyring.new_seconds if keyring else None
    return 0.0 if seconds is None else time.time() + seconds


def _of_reloads(reloads: Reloads) -> Mapping[str, Reader]:
    return {
        "reloads": lambda: _labelled(reloads.outcomes),
        "last_reload_ok": _one(lambda: reloads.is_ok),
        "last_reload_timestamp_seconds": _one(lambda: reloads.last_at),
    }


def _lost(lost_lines: LostLines) -> Values:
    audit, events = lost_lines()
    return {("audit",): audit, ("events",): events}
