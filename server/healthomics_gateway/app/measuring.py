"""Connects the metrics to the parts of a gateway."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from importlib.metadata import version
from time import time

import grpc

from healthomics_gateway.app.parts import LostLines, Parts
from healthomics_gateway.auth.keyring import Keyring
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.interceptors.chain import KINDS, UNARY
from healthomics_gateway.interceptors.metrics import Measure, Measured, measure
from healthomics_gateway.services.reflection import served_methods
from healthomics_gateway.telemetry.metrics.registry import Metrics
from healthomics_gateway.telemetry.metrics.state import Reader, Values


def make_metrics() -> Metrics:
    """Create the metrics of a gateway, with the series of all methods."""
    metrics = Metrics(reasons=[each.name for each in Reason])
    if metrics.calls:
        for path, *streams in served_methods():
            metrics.calls.of(*_names_of(path), KINDS[streams[0], streams[1]])
    return metrics


def measure_for(metrics: Metrics, *, without_rules: frozenset[str]) -> Measure:
    """Return how each method is measured; rules don't apply to some services."""

    def measured(path: str, kind: str) -> Measured:
        if metrics.calls is None:
            return Measured()
        service, method = _names_of(path)
        return measure(
            metrics.calls.of(service, method, kind),
            is_unary=kind == UNARY,
            refusals=metrics.refusals,
            rules=None if service in without_rules else metrics.rules,
        )

    return measured


def observe(metrics: Metrics, parts: Parts) -> None:
    """Let the metrics read the state of the parts whenever they are asked for."""
    metrics.state.observe(
        {
            "build_info": _build_info,
            "ready": _one(lambda: not parts.readiness.why_not),
            "draining": _one(lambda: parts.readiness.is_draining),
            **_of_quota(parts),
            "queue_length": lambda: _queue_length(parts),
            "cache_hits": _one(lambda: parts.cache.hits),
            "cache_misses": _one(lambda: parts.cache.misses),
            "cache_bytes": _one(lambda: parts.cache.held_bytes),
            "cache_entries": _one(lambda: parts.cache.runs),
            "watches": _one(lambda: parts.bounds.watching.inside),
            "unread_bytes": _one(lambda: parts.bounds.send_buffer.kept_bytes),
            "rule_calls": lambda: {
                (label,): number for label, number in parts.rule_calls.numbers.items()
            },
            "log_lines_lost": lambda: _lost(parts.lost_lines),
            "credentials_expiry_timestamp_seconds": _one(
                lambda: _timestamp(parts.upstream.provider.expires_at)
            ),
            "certificate_expiry_timestamp_seconds": lambda: {
                (address,): expires_at
                for address, expires_at in parts.listeners.certificate_expiries
            },
            "jwks_expiry_timestamp_seconds": _one(lambda: _keys_expiry(parts.keyring)),
            "reloads": lambda: {
                (outcome,): number for outcome, number in parts.reloads.outcomes.items()
            },
            "last_reload_ok": _one(lambda: parts.reloads.is_ok),
            "last_reload_timestamp_seconds": _one(lambda: parts.reloads.last_at),
        }
    )


def _names_of(path: str) -> tuple[str, str]:
    """Return the names of a path's service and method."""
    service, _, method = path.strip("/").partition("/")
    return service, method


def _one(read: Callable[[], float]) -> Reader:
    """Return the reader of a metric without labels."""
    return lambda: {(): float(read())}


def _build_info() -> Values:
    own = version("healthomics-gateway")
    return {(own, platform.python_version(), grpc.__version__): 1.0}


def _of_quota(parts: Parts) -> Mapping[str, Reader]:
    schedulers = parts.upstream.schedulers
    return {
        "quota_tokens": lambda: {
            (account,): each.tokens for account, each in schedulers.by_account.items()
        },
        "quota_rate": lambda: {
            (account,): each.rate for account, each in schedulers.by_account.items()
        },
        "quota_limit": lambda: {
            (account,): each.tps for account, each in schedulers.by_account.items()
        },
    }


def _queue_length(parts: Parts) -> Values:
    """Return how many wait for their turn; a poll waits in one queue after another."""
    lengths = Counter(call=0, poll=0)
    for schedulers in (parts.upstream.schedulers, parts.upstream.poll_schedulers):
        for each in schedulers.by_account.values():
            lengths["poll"] += each.waiting_polls
            lengths["call"] += each.waiting - each.waiting_polls
    return {(kind,): length for kind, length in lengths.items()}


def _lost(lost_lines: LostLines) -> Values:
    audit, events = lost_lines()
    return {("audit",): audit, ("events",): events}


def _timestamp(time: datetime | None) -> float:
    """Return the seconds since 1970, or 0 without a time."""
    return time.timestamp() if time else 0.0


def _keys_expiry(keyring: Keyring | None) -> float:
    seconds = keyring.new_seconds if keyring else None
    return 0.0 if seconds is None else time() + seconds
