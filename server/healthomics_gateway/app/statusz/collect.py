"""Collects what the status page shows from the parts of a gateway."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TypeVar

import grpc

from healthomics_gateway.app.parts import Parts
from healthomics_gateway.app.statusz import shape
from healthomics_gateway.app.statusz.shown_settings import (
    clipped,
    masked_url,
    shown_settings,
)
from healthomics_gateway.auth.keyring import Keyring
from healthomics_gateway.auth.policy import DENY_ALL
from healthomics_gateway.runs.cache import Cache
from healthomics_gateway.runs.scheduler import Scheduler
from healthomics_gateway.settings.schema import Settings
from healthomics_gateway.telemetry.recent import Failure, SlotUse

MAX_ITEMS = 500  # of each list; a settings file may have more rules than that
VERSION = version("healthomics-gateway")

T = TypeVar("T")


class Collector:
    """Returns what the status page shows, each time anew."""

    def __init__(
        self,
        parts: Parts,
        *,
        admin_address: Callable[[], str],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Collect from `parts`; the time since now is the uptime."""
        self._parts = parts
        self._admin_address = admin_address
        self._now = now
        self._clock = clock
        self._started, self._begun = now(), clock()
        self._read: Settings | None = None  # the settings that are shown
        self._shown: Sequence[shape.Setting] = ()

    def snapshot(self) -> shape.Snapshot:
        """Return the state of all parts."""
        parts, readiness, now = self._parts, self._parts.readiness, self._now()
        left_out: dict[str, int] = {}
        schedulers = list(parts.upstream.schedulers.by_account.items())
        return shape.Snapshot(
            host=platform.node(),
            version=VERSION,
            python_version=platform.python_version(),
            grpc_version=grpc.__version__,
            time=now,
            started=self._started,
            uptime_seconds=round(self._clock() - self._begun, 3),
            ready=not readiness.why_not,
            reason=readiness.why_not,
            live=not readiness.is_dead,
            draining=readiness.is_draining,
            parts=[
                replace(each, fault=clipped(each.fault)) for each in readiness.parts
            ],
            addresses=[str(each) for each in parts.listeners.addresses],
            admin_address=self._admin_address(),
            region=parts.aws.region,
            endpoint=masked_url(parts.aws.endpoint),
            calls=self._calls(),
            quota=[
                _quota(account, each)
                for account, each in _bounded("quota", schedulers, left_out)
            ],
            watches=self._watches(),
            cache=_cache(parts.cache),
            errors=self._errors(),
            credentials=self._credentials(now),
            certificates=self._certificates(now),
            keys=_keys(parts.keyring) if parts.keyring else None,
            rules=_bounded("rules", self._rules(), left_out),
            calls_without_rule=self._calls_by_rule.get(DENY_ALL.label, 0),
            settings=_bounded("settings", self._settings(), left_out),
            left_out=left_out,
        )

    def _settings(self) -> Sequence[shape.Setting]:
        """Return the settings, read again only after a reload: that reads files."""
        settings = self._parts.reloads.settings
        if settings is not self._read:
            self._read, self._shown = settings, tuple(shown_settings(settings))
        return self._shown

    def _calls(self) -> shape.Calls:
        return shape.Calls(
            open=self._parts.bounds.admission.inside,
            max_open=self._parts.reloads.settings.max_in_flight,
        )

    def _watches(self) -> shape.WatchState:
        return shape.WatchState(
            open=self._parts.bounds.watching.inside,
            max_open=self._parts.reloads.settings.watch.max_open,
            runs=self._parts.service.watched_runs,
        )

    def _errors(self) -> shape.ErrorState:
        errors = self._parts.observability.errors
        return shape.ErrorState(
            by_reason=[
                shape.ReasonState(count=each.count, last=self._error(each.newest))
                for each in errors.by_reason
            ],
            newest=[self._error(each) for each in errors.newest],
        )

    def _error(self, failure: Failure) -> shape.ErrorEntry:
        return shape.ErrorEntry(
            time=failure.time,
            reason=failure.reason,
            code=failure.code,
            method=failure.method,
            request_id=failure.request_id,
            identity=self._identity(failure.identity),
        )

    def _credentials(self, now: datetime) -> shape.CredentialState:
        provider = self._parts.upstream.provider
        expires = provider.expires_at
        return shape.CredentialState(
            usable=provider.is_usable,
            expires=expires,
            expires_in_seconds=(expires - now).total_seconds() if expires else None,
        )

    def _certificates(self, now: datetime) -> list[shape.CertificateState]:
        return [
            shape.CertificateState(
                section=each.section,
                expires=each.served.not_after,
                expires_in_seconds=(each.served.not_after - now).total_seconds(),
                fingerprint=each.served.fingerprint,
                fault=clipped(each.fault),
            )
            for each in self._parts.listeners.certificates
        ]

    @property
    def _calls_by_rule(self) -> Mapping[str, int]:
        return self._parts.observability.metrics.rules.numbers

    def _rules(self) -> list[shape.RuleState]:
        calls = self._calls_by_rule
        return [
            shape.RuleState(
                rule=at,
                identity=self._identity(rule.identity),
                methods=sorted(rule.methods),
                calls=calls.get(rule.label, 0),
            )
            for at, rule in enumerate(self._parts.guards.policy.rules, start=1)
        ]

    def _identity(self, identity: str) -> str | None:
        is_shown = self._parts.reloads.settings.statusz.identities
        return clipped(identity) if is_shown else None


def _quota(account: str, scheduler: Scheduler) -> shape.QuotaState:
    slots = scheduler.use.slots
    return shape.QuotaState(
        account=account,
        limit_per_second=scheduler.tps,
        tokens=round(scheduler.tokens, 3),
        rate_per_second=round(scheduler.rate, 3),  # `tokens` has brought it up to date
        waiting=scheduler.waiting,
        used=sum(each.used for each in slots),
        left=_left(slots),
        throttled=sum(each.throttled for each in slots),
        slots=slots,
    )


def _left(slots: Sequence[SlotUse]) -> int:
    return round(sum(max(0.0, each.limit - each.used) for each in slots))


def _cache(cache: Cache) -> shape.CacheState:
    return shape.CacheState(
        runs=cache.runs,
        bytes=cache.held_bytes,
        max_bytes=cache.max_bytes,
        hits=cache.hits,
        misses=cache.misses,
    )


def _keys(keyring: Keyring) -> shape.KeyState:
    return shape.KeyState(
        keys=len(keyring.keys.keys) if keyring.keys else 0,
        age_seconds=keyring.age_seconds,
        due_seconds=keyring.due_seconds,
        fault=clipped(keyring.fault()),
    )


def _bounded(name: str, items: Sequence[T], left_out: dict[str, int]) -> Sequence[T]:
    """Return the first items, and note how many others there are."""
    if len(items) > MAX_ITEMS:
        left_out[name] = len(items) - MAX_ITEMS
    return items[:MAX_ITEMS]
