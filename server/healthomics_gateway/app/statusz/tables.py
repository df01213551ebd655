"""The rows of the status page's tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import TypeVar

from healthomics_gateway.app.statusz.markup import Child, Markup, element, joined
from healthomics_gateway.app.statusz.shape import (
    CertificateState,
    KeyState,
    Snapshot,
    WorkerState,
)
from healthomics_gateway.app.statusz.texts import count, moment, size, span
from healthomics_gateway.services.readiness import PartState
from healthomics_gateway.tls.files import RENEWAL_DUE

MEANINGS = {  # of all parts that a gateway may have
    "listeners": "New calls arrive, and no shutdown has begun.",
    "aws": "The gateway has AWS credentials, and AWS accepts them.",
    "upstream": "HealthOmics answers, or hasn't been asked yet.",
    "keys": "The keys that verify tokens have been read.",
    "certificate": "The files of the server certificates are valid.",
    "configuration": "The file of --config was read, and its settings are in effect.",
    "shared": "The shared store is used. A fault here never stops calls.",
    "workers": "All workers run, and answer.",
    "log": "Lines of the log are written. A fault here never stops calls.",
}
_N = TypeVar("_N", int, float)

MINUTE = 60.0
CREDENTIALS_SECONDS = 5 * MINUTE  # botocore renews credentials earlier than this


def part_rows(state: Snapshot) -> Iterator[tuple[Child, ...]]:
    """Yield a row for each part of readiness."""
    for part in state.parts:
        yield element("b", part.name), _part_state(part), _meaning(part)


def _meaning(part: PartState) -> str:
    """Return what ok means; if workers differ, the name of a part has theirs too."""
    name, _, _ = part.name.partition(" ")
    return MEANINGS.get(name, "")


def _part_state(part: PartState) -> Markup:
    kind = "bad" if part.reason else "warn" if part.fault else "good"
    word = "not ready" if part.reason else "fault" if part.fault else "ok"
    details = part.text if part.reason or part.fault else None
    return joined(badge(word, kind), " " if details else None, details)


def badge(word: str, kind: str) -> Markup:
    """Return a word with a colour for its kind: good, warn or bad."""
    return element("span", word, class_=f"badge {kind}")


def certificate_rows(state: Snapshot) -> Iterator[tuple[Child, ...]]:
    """Yield a row for the credentials, each certificate, and the keys."""
    credentials = state.credentials
    yield (
        element("b", "AWS credentials"),
        _validity(credentials.expires_in_seconds, CREDENTIALS_SECONDS)
        if credentials.usable
        else badge("not usable", "bad"),
        _expiry(credentials.expires, state.time),
    )
    for each in state.certificates:
        yield (
            joined(element("b", "certificate"), f" ({each.section})"),
            _certificate(each),
            _expiry(each.expires, state.time),
        )
    if state.keys:
        yield element("b", "keys for tokens"), _keys(state.keys), _age(state.keys)


def _validity(seconds: float | None, least: float) -> Markup:
    if seconds is None or seconds > least:
        return badge("valid", "good")
    return badge("expires soon", "warn") if seconds > 0 else badge("expired", "bad")


def _certificate(state: CertificateState) -> Markup:
    validity = _validity(state.expires_in_seconds, RENEWAL_DUE.total_seconds())
    return joined(
        validity,
        " ",
        element("small", f"SHA-256 {state.fingerprint[:16]}…"),
        f" {state.fault}" if state.fault else None,
    )


def _expiry(when: datetime | None, now: datetime) -> Child:
    return moment(when, now) if when else "no expiry known"


def _keys(keys: KeyState) -> Markup:
    read = count(keys.keys, "key", "keys")
    if keys.age_seconds is None:
        return joined(badge("not read", "bad"), f" {keys.fault}")
    if keys.fault:
        return joined(badge("fault", "warn"), f" {keys.fault}; {read} still used")
    return joined(badge("valid", "good"), f" {read}")


def _age(keys: KeyState) -> str:
    due = f"read again in {span(keys.due_seconds)}"
    if keys.age_seconds is None:
        return due
    return f"read {span(keys.age_seconds)} ago; {due}"


def rule_rows(state: Snapshot) -> Iterator[tuple[Child, ...]]:
    """Yield a row for each rule in order, and one for callers that none applies to."""
    for each in state.rules:
        name = f"rule {each.rule} (callers[{each.rule - 1}])"  # as among the settings
        shown = joined(name, ": ", element("code", each.identity))
        methods = ", ".join(each.methods) or "none"
        yield shown if each.identity else name, methods, f"{each.calls:,}"
    name = "no rule applies, or the identity isn't proven"
    yield name, "denied", f"{state.calls_without_rule:,}"


def worker_rows(state: Snapshot) -> Iterator[tuple[Child, ...]]:
    """Yield a row for each worker."""
    for each in state.workers:
        process = "not running" if each.pid is None else f"process {each.pid}"
        yield (
            joined(
                element("b", f"worker {each.worker}"), " ", element("small", process)
            ),
            _worker_state(each),
            *(_known(value, "{:,}".format) for value in (each.calls, each.watches)),
            _known(each.memory_bytes, size),
            _known(each.uptime_seconds, span),
            f"{each.restarts:,}",
        )


def _worker_state(worker: WorkerState) -> Markup:
    kind = "bad" if not worker.ready else "warn" if worker.fault else "good"
    word = "not ready" if not worker.ready else "fault" if worker.fault else "ready"
    why = ": ".join(filter(None, (worker.reason, worker.fault)))
    return joined(badge(word, kind), " " if why else None, why or None)


def _known(value: _N | None, text: Callable[[_N], str]) -> str:
    return "unknown" if value is None else text(value)
