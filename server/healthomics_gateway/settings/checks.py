"""Checks that concern several settings, or the machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from itertools import chain

from healthomics_gateway.auth.jwks_fetch import url_fault
from healthomics_gateway.auth.policy import Rule, RuleIndex
from healthomics_gateway.durations import duration_text
from healthomics_gateway.settings.file_checks import is_readable, unreadable_files
from healthomics_gateway.settings.listener_checks import Finding, listener_faults
from healthomics_gateway.settings.listener_settings import (
    asks_for_certificates,
    listeners_of,
)
from healthomics_gateway.settings.schema import Jwt, Settings, Shared
from healthomics_gateway.settings.sources import leaves
from healthomics_gateway.shared.url_fault import url_fault as store_url_fault
from healthomics_gateway.tls.authorities import ca_file_fault

KEYS = ("jwt.jwks_url", "jwt.jwks_file")
LIMITS = {  # of a duration, the setting that it must not exceed
    "default_deadline": "max_deadline",
    "upstream.connect_timeout": "upstream.attempt_timeout",
    "cache.max_staleness": "cache.max_staleness_limit",
}


def faults_of(
    settings: Settings, origins: Mapping[str, str], refused: AbstractSet[str]
) -> Iterator[str]:
    """Yield the faults that concern several settings, or the machine.

    `refused` has the names of settings with invalid values. A fault that one of them
    may have caused is left out, as a correct value may remove it.
    """
    listeners = listeners_of(settings)
    yield from unreadable_files(settings, origins)
    for names, fault in chain(
        listener_faults(settings, listeners),
        _jwt_faults(settings.jwt),
        _shared_faults(settings.shared),
        caller_faults(settings),
        _limit_faults(settings),
    ):
        if refused.isdisjoint(names):
            yield fault


def _jwt_faults(jwt: Jwt) -> Iterator[Finding]:
    if jwt.jwks_url and jwt.jwks_file:
        yield (), "jwt.jwks_url and jwt.jwks_file: set one of them"
    if jwt.jwks_url and (fault := url_fault(jwt.jwks_url)):
        yield (), f"jwt.jwks_url: {fault}"
    if jwt.is_on or jwt.issuer or jwt.audience:
        for name in ("issuer", "audience", "algorithms"):
            if not getattr(jwt, name):
                yield (f"jwt.{name}",), f"jwt: set jwt.{name} too"
        if not jwt.is_on:
            yield KEYS, "jwt: set jwt.jwks_url or jwt.jwks_file too"
    for name in ("ca_file", "jwks_token_file"):
        if getattr(jwt, name) and not jwt.jwks_url:
            fault = "it is used only with jwt.jwks_url; set that too, or remove this"
            yield ("jwt.jwks_url",), f"jwt.{name}: {fault}"
    ca_file = jwt.ca_file
    if ca_file and is_readable(ca_file) and (fault := ca_file_fault(ca_file)):
        yield (), f"jwt.ca_file: {fault}"


def _shared_faults(shared: Shared) -> Iterator[Finding]:
    if shared.url:
        if not shared.secret:
            advice = (
                "set it too, the same for all replicas: at least 32 random characters,"
                " such as the output of `openssl rand -hex 32`"
            )
            yield ("shared.secret",), f"shared.secret: {advice}"
        if fault := store_url_fault(shared.url.get_secret_value()):
            yield (), f"shared.url: {fault}"


def caller_faults(settings: Settings) -> Iterator[Finding]:
    """Yield the faults of rules that can never apply to a call."""
    is_provable = settings.jwt.is_on or asks_for_certificates(settings)
    named = {each.identity for each in listeners_of(settings)}
    rules = [Rule(each.identity, each.methods) for each in settings.callers]
    index = RuleIndex(each.identity for each in rules)
    for at, rule in enumerate(rules):
        name = f"callers[{at}].identity {rule.identity}"
        if not (is_provable or any(map(rule.matches, named))):
            advice = "set tls.client_auth, jwt.jwks_url or jwt.jwks_file"
            fault = f"{name}: no caller can prove this identity; {advice}"
            yield (*KEYS, "tls.client_auth", "listeners"), fault
        before = index.first(rule.identity)
        if before is not None and before < at:
            fault = f"callers[{before}] already matches all of these callers"
            yield (), f"{name}: {fault}; remove this rule, or move it up"


def _limit_faults(settings: Settings) -> Iterator[Finding]:
    values = dict(leaves(settings))
    for name, limit in LIMITS.items():
        if values[name] > values[limit]:
            duration, most = duration_text(values[name]), duration_text(values[limit])
            fault = f"{name} {duration}: write at most {limit}, {most}"
            yield (name, limit), fault
