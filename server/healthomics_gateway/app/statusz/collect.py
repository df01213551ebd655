"""Collects what the status page shows from the parts of a gateway."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import grpc

from healthomics_gateway.app.parts import Parts
from healthomics_gateway.app.statusz import shape
from healthomics_gateway.app.statusz.bounds import MAX_CERTIFICATES, bounded, clipped
from healthomics_gateway.app.statusz.quotas import quotas
from healthomics_gateway.app.statusz.shown_settings import shown_settings
from healthomics_gateway.app.waiting import waiting
from healthomics_gateway.auth.keyring import Keyring
from healthomics_gateway.auth.policy import DENY_ALL
from healthomics_gateway.net.urls import masked_url
from healthomics_gateway.runs.cache import Cache
from healthomics_gateway.services.readiness import Readiness
from healthomics_gateway.settings.schema import Settings
from healthomics_gateway.telemetry.recent import Failure
from healthomics_gateway.threads import OneAtATime
from healthomics_gateway.version import VERSION


class Collector:
    """Returns what the status page shows, each time anew."""

    def __init__(self, parts: Parts, *, admin_address: Callable[[], str]) -> None:
        """Collect from `parts`; the time since now is the uptime."""
        self._parts = parts
        self._admin_address = admin_address
        self._started, self._begun = datetime.now(UTC), time.monotonic()
        self._thread = OneAtATime("statusz-settings")
        self._read: Settings | None = None  # the settings that are shown
        self._shown: Sequence[shape.Setting] = ()

    async def snapshot(self) -> shape.Snapshot:
        """Return the state of all parts."""
        settings = self._parts.reloads.settings
        if settings is not self._read:  # at the start, and after each reload
            show = partial(_shown, settings)
            self._read, self._shown = await self._thread.run(show)
        return self._snapshot(datetime.now(UTC))

    def _snapshot(self, now: datetime) -> shape.Snapshot:
        parts, upstream = self._parts, self._parts.upstream
        left_out: dict[str, int] = {}
        return shape.Snapshot(
            **self._process(now),
            **_readiness(parts.readiness),
            workers=(),
            **self._places(left_out),
            calls=self._calls(),
            quota=quotas(
                upstream.schedulers.by_account,
                waiting(upstream),
                left_out,
                scope=parts.quota_scope,
            ),
            watches=self._watches(),
            cache=_cache(parts.cache),
            errors=self._errors(),
            credentials=self._credentials(now),
            certificates=self._certificates(now, left_out),
            keys=_keys(parts.keyring) if parts.keyring else None,
            rules=self._rules(left_out),
            calls_without_rule=self._calls_by_rule.get(DENY_ALL.label, 0),
            settings=bounded("settings", self._shown, left_out),
            left_out=left_out,
        )

    def _process(self, now: datetime) -> Mapping[str, Any]:
        return {
            "host": clipped(platform.node()),
            "version": VERSION,
            "python_version": platform.python_version(),
            "grpc_version": grpc.__version__,
            "time": now,
            "started": self._started,
            "uptime_seconds": round(time.monotonic() - self._begun, 3),
        }

    def _places(self, left_out: dict[str, int]) -> Mapping[str, Any]:
        addresses = [str(each) for each in self._parts.listeners.addresses]
        return {
            "addresses": bounded("addresses", addresses, left_out),
            "admin_address": self._admin_address(),
            "region": clipped(self._parts.aws.region),
            "endpoint": clipped(masked_url(self._parts.aws.endpoint)),
        }

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
                replace(each, last=self._error(each.last)) for each in errors.by_reason
            ],
            newest=[self._error(each) for each in errors.newest],
        )

    def _error(self, failure: Failure) -> Failure:
        return replace(failure, identity=self._identity(failure.identity))

    def _credentials(self, now: datetime) -> shape.CredentialState:
        provider = self._parts.upstream.provider
        expires = provider.expires_at
        return shape.CredentialState(
            usable=provider.is_usable,
            expires=expires,
            expires_in_seconds=(expires - now).total_seconds() if expires else None,
        )

    def _certificates(
        self, now: datetime, left_out: dict[str, int]
    ) -> list[shape.CertificateState]:
        served = self._parts.listeners.certificates
        return [
            shape.CertificateState(
                section=each.section,
                expires=each.served.not_after,
                expires_in_seconds=(each.served.not_after - now).total_seconds(),
                fingerprint=each.served.fingerprint,
                fault=clipped(each.fault),
            )
            for each in bounded("certificates", served, left_out, most=MAX_CERTIFICATES)
        ]

    @property
    def _calls_by_rule(self) -> Mapping[str, int]:
        return self._parts.observability.metrics.rules.numbers

    def _rules(self, left_out: dict[str, int]) -> list[shape.RuleState]:
        calls = self._calls_by_rule
        rules = bounded("rules", self._parts.guards.policy.rules, left_out)
        return [
            shape.RuleState(
                rule=at,
                identity=self._identity(rule.identity),
                methods=sorted(rule.methods),
                calls=calls.get(rule.label, 0),
            )
            for at, rule in enumerate(rules, start=1)
        ]

    def _identity(self, identity: str | None) -> str | None:
        is_shown = self._parts.reloads.settings.statusz.identities
        return clipped(identity or "") if is_shown else None


def _shown(settings: Settings) -> tuple[Settings, Sequence[shape.Setting]]:
    return settings, tuple(shown_settings(settings))


def _readiness(readiness: Readiness) -> Mapping[str, Any]:
    return {
        "ready": not readiness.why_not,
        "reason": readiness.why_not,
        "live": not readiness.is_dead,
        "draining": readiness.is_draining,
        "parts": [replace(each, fault=clipped(each.fault)) for each in readiness.parts],
    }


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
