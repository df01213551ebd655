"""Merges the states of several workers into what the status page shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from healthomics_gateway.app.statusz.bounds import clipped
from healthomics_gateway.app.statusz.merging_quotas import merged_quotas
from healthomics_gateway.app.statusz.shape import (
    CacheState,
    Calls,
    CertificateState,
    CredentialState,
    ErrorState,
    KeyState,
    RuleState,
    Snapshot,
    WatchState,
)
from healthomics_gateway.app.statusz.texts import by_worker
from healthomics_gateway.telemetry.recent import (
    MAX_ERRORS,
    MAX_REASONS,
    Failure,
    ReasonCount,
)


def merged(
    living: Mapping[int, Snapshot], past: Snapshot, *, now: datetime, **own: Any
) -> Snapshot:
    """Return the state of a gateway.

    `living` are the newest states of its workers, by their numbers, and `past` is the
    state of those that have ended. `own` are the members of the gateway as a whole.
    What is equal in all workers is that of the first one.
    """
    states = list(living.values())
    everything = [*states, past]
    first = everything[0]
    left_out: Counter[str] = Counter()
    for each in states or [past]:
        left_out |= Counter(each.left_out)
    return replace(
        first,
        time=now,
        calls=Calls(
            open=sum(each.calls.open for each in states),
            max_open=sum(each.calls.max_open for each in states),
        ),
        quota=merged_quotas(states, past, now=now.timestamp(), left_out=left_out),
        watches=WatchState(
            open=sum(each.watches.open for each in states),
            max_open=sum(each.watches.max_open for each in states),
            runs=sum(each.watches.runs for each in states),
        ),
        cache=_cache(states, past),
        errors=_errors([each.errors for each in everything]),
        credentials=_credentials([each.credentials for each in states or [past]], now),
        certificates=_certificates(living, now) if living else past.certificates,
        keys=_keys({at: each.keys for at, each in living.items() if each.keys})
        or first.keys,
        rules=_rules(first.rules, everything[1:]),
        calls_without_rule=sum(each.calls_without_rule for each in everything),
        left_out=dict(left_out),
        **own,
    )


def ended(state: Snapshot, past: Snapshot) -> Snapshot:
    """Return the state of all workers that have ended, with `state` of the last one.

    What a worker had at the moment of its end isn't part of it.
    """
    both = merged({1: state}, past, now=max(state.time, past.time))
    return replace(
        both,
        calls=Calls(open=0, max_open=0),
        quota=[replace(each, waiting_calls=0, waiting_polls=0) for each in both.quota],
        watches=WatchState(open=0, max_open=0, runs=0),
        cache=replace(both.cache, runs=0, bytes=0, max_bytes=0),
    )


def _cache(states: Sequence[Snapshot], past: Snapshot) -> CacheState:
    caches = [each.cache for each in (*states, past)]
    return CacheState(
        runs=sum(each.runs for each in caches),
        bytes=sum(each.bytes for each in caches),
        max_bytes=sum(each.max_bytes for each in caches),
        hits=sum(each.hits for each in caches),
        misses=sum(each.misses for each in caches),
    )


def _errors(states: Iterable[ErrorState]) -> ErrorState:
    counts: dict[str, ReasonCount] = {}
    newest: list[Failure] = []
    for state in states:
        newest += state.newest
        for each in state.by_reason:
            known = counts.get(each.last.reason, ReasonCount(0, each.last))
            last = max(known.last, each.last, key=_time)
            counts[each.last.reason] = ReasonCount(known.count + each.count, last)
    frequent = sorted(counts.values(), key=lambda each: -each.count)
    return ErrorState(
        by_reason=frequent[:MAX_REASONS],
        newest=sorted(newest, key=_time, reverse=True)[:MAX_ERRORS],
    )


def _time(failure: Failure) -> datetime:
    return failure.time


def _credentials(states: Sequence[CredentialState], now: datetime) -> CredentialState:
    expiries = [each.expires for each in states if each.expires]
    expires = min(expiries, default=None)
    return CredentialState(
        usable=all(each.usable for each in states),
        expires=expires,
        expires_in_seconds=(expires - now).total_seconds() if expires else None,
    )


def _certificates(
    living: Mapping[int, Snapshot], now: datetime
) -> list[CertificateState]:
    """Return the certificate of each section that expires first, with all faults."""
    by_section: dict[str, dict[int, CertificateState]] = {}
    for number, state in living.items():
        for each in state.certificates:
            by_section.setdefault(each.section, {})[number] = each
    return [
        replace(
            first := min(found.values(), key=lambda each: each.expires),
            expires_in_seconds=(first.expires - now).total_seconds(),
            fault=clipped(by_worker({at: each.fault for at, each in found.items()})),
        )
        for found in by_section.values()
    ]


def _keys(states: Mapping[int, KeyState]) -> KeyState | None:
    """Return the fewest and oldest keys, with all faults."""
    if not states:
        return None
    ages = [
        each.age_seconds for each in states.values() if each.age_seconds is not None
    ]
    return KeyState(
        keys=min(each.keys for each in states.values()),
        age_seconds=max(ages) if len(ages) == len(states) else None,
        due_seconds=max(each.due_seconds for each in states.values()),
        fault=clipped(by_worker({at: each.fault for at, each in states.items()})),
    )


def _rules(rules: Sequence[RuleState], others: Sequence[Snapshot]) -> list[RuleState]:
    """Return rules with the calls that matched the same ones in all workers."""
    calls: Counter[tuple[int, str | None]] = Counter()
    for state in others:
        for each in state.rules:
            calls[each.rule, each.identity] += each.calls
    return [
        replace(each, calls=each.calls + calls[each.rule, each.identity])
        for each in rules
    ]
