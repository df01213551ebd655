"""Lets the metrics read the state of a gateway's parts."""

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
from healthomics_gateway.telemetry.metrics.state import Reader, Values


def observe(parts: Parts) -> None:
    """Let the metrics read the state of the parts whenever they are asked for."""
    parts.observability.metrics.state.observe(readers_of(parts))


def readers_of(parts: Parts) -> Mapping[str, Reader]:
    """Return the readers of all metrics of the state, by their names."""
    observability = parts.observability
    return {
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
            (label,): number
            for label, number in observability.metrics.rules.numbers.items()
        },
        "log_lines_lost": lambda: _lost(observability.lost_lines),
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
