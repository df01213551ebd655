"""Snapshots of a gateway's state for its status page: at rest, loaded, with faults."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from healthomics_gateway.app.statusz import shape
from healthomics_gateway.services.readiness import PartState
from healthomics_gateway.telemetry.quota_scope import ALL, GATEWAY
from healthomics_gateway.telemetry.recent import (
    SLOT_SECONDS,
    SLOTS,
    Failure,
    ReasonCount,
    SlotUse,
)

NOW = datetime(2026, 11, 29, 12, 30, tzinfo=UTC)
LIMS = "spiffe://corp/ns/lims/*"
METHOD = "/healthomics.v1.RunService/GetRun"
HOSTILE = "\"'><script src=//evil.test/x>alert(1)</script><img src=http://evil.test/y>&"


def slot(at: int, *, used: int = 0, throttled: int = 0, rate: float = 8.0) -> SlotUse:
    """Return the use of the slot `at` before the last one, all of which have passed."""
    return SlotUse(
        ago_seconds=(at + 1) * SLOT_SECONDS,
        seconds=SLOT_SECONDS,
        used=used,
        throttled=throttled,
        rate_per_second=rate,
    )


def quota(*slots: SlotUse, **changes: Any) -> shape.QuotaState:
    """Return the quota of an account with these slots."""
    used = sum(each.used for each in slots)
    state = shape.QuotaState(
        account="own",
        scope=GATEWAY,
        limit_per_second=8.0,
        rate_per_second=8.0,
        tokens=2.0,
        waiting_calls=0,
        waiting_polls=0,
        used=used,
        left=round(sum(each.limit for each in slots)) - used,
        throttled=sum(each.throttled for each in slots),
        slots=slots,
    )
    return replace(state, **changes)


def error(reason: str = "RUN_NOT_FOUND", **changes: Any) -> Failure:
    """Return a failed call."""
    entry = Failure(
        time=NOW - timedelta(seconds=5),
        reason=reason,
        code="NOT_FOUND",
        method=METHOD,
        request_id="0a1b2c",
        identity=None,
    )
    return replace(entry, **changes)


def errors(*newest: Failure) -> shape.ErrorState:
    """Return the errors, each of which is of its own reason."""
    counts = [ReasonCount(count=7, last=each) for each in newest]
    return shape.ErrorState(by_reason=counts, newest=newest)


def at_rest(**changes: Any) -> shape.Snapshot:
    """Return the state of a gateway that nobody has called."""
    state = shape.Snapshot(
        host="pod-1",
        version="0.1.0",
        python_version="3.11.7",
        grpc_version="1.80.0",
        time=NOW,
        started=NOW - timedelta(hours=2, minutes=5),
        uptime_seconds=7500.0,
        ready=True,
        reason="",
        live=True,
        draining=False,
        parts=[PartState(each, "", "") for each in ("listeners", "aws", "upstream")],
        workers=(),
        addresses=["127.0.0.1:50051"],
        admin_address="127.0.0.1:9464",
        region="us-east-1",
        endpoint="https://workflows-omics.us-east-1.amazonaws.com",
        calls=shape.Calls(open=0, max_open=8192),
        quota=[quota(slot(0))],
        watches=shape.WatchState(open=0, max_open=10_000, runs=0),
        cache=shape.CacheState(runs=0, bytes=0, max_bytes=2**26, hits=0, misses=0),
        errors=errors(),
        credentials=shape.CredentialState(
            usable=True, expires=None, expires_in_seconds=None
        ),
        certificates=[],
        keys=None,
        rules=[],
        calls_without_rule=0,
        settings=[shape.Setting(name="log.level", value="info", is_default=True)],
        left_out={},
    )
    return replace(state, **changes)


def certificate(seconds: float, **changes: Any) -> shape.CertificateState:
    """Return a certificate that expires in so many seconds."""
    state = shape.CertificateState(
        section="tls",
        expires=NOW + timedelta(seconds=seconds),
        expires_in_seconds=seconds,
        fingerprint="ab" * 32,
        fault="",
    )
    return replace(state, **changes)


def worker(number: int = 1, **changes: Any) -> shape.WorkerState:
    """Return a worker at work."""
    state = shape.WorkerState(
        worker=number,
        pid=4200 + number,
        ready=True,
        reason="",
        fault="",
        calls=12,
        watches=1200,
        memory_bytes=90 * 2**20,
        uptime_seconds=7500.0,
        restarts=0,
    )
    return replace(state, **changes)


def loaded(**changes: Any) -> shape.Snapshot:
    """Return the state of a gateway at work, with everything that a page may show."""
    slots = [
        slot(at, used=at * 2, throttled=int(at == 9)) for at in reversed(range(SLOTS))
    ]
    state = at_rest(
        calls=shape.Calls(open=12, max_open=8192),
        quota=[
            quota(*slots, rate_per_second=5.6, waiting_calls=3, waiting_polls=1),
            quota(slot(0, used=1), account="210987654321", scope=ALL),
        ],
        workers=[worker(1), worker(2)],
        watches=shape.WatchState(open=1200, max_open=10_000, runs=40),
        cache=shape.CacheState(
            runs=1, bytes=5 * 2**20, max_bytes=2**26, hits=90, misses=10
        ),
        errors=errors(
            error(identity="lims"), error("METHOD_UNKNOWN", method="", identity="x")
        ),
        credentials=shape.CredentialState(
            usable=True,
            expires=NOW + timedelta(hours=1),
            expires_in_seconds=3600.0,
        ),
        certificates=[certificate(90 * 86_400.0)],
        keys=shape.KeyState(keys=2, age_seconds=60.0, due_seconds=240.0, fault=""),
        rules=[
            shape.RuleState(rule=1, identity=LIMS, methods=["GetRun"], calls=1234),
            shape.RuleState(rule=2, identity=None, methods=[], calls=0),
        ],
        settings=[
            shape.Setting(name="quota.tps", value="8", is_default=True),
            shape.Setting(name="log.level", value="debug", is_default=False),
            shape.Setting(name="jwt.issuer", value="", is_default=False),
        ],
        left_out={"rules": 1000},
    )
    return replace(state, **changes)


def with_faults(**changes: Any) -> shape.Snapshot:
    """Return the state of a gateway in which everything is wrong."""
    state = loaded(
        ready=False,
        reason="UPSTREAM_CONNECTION",
        parts=[
            PartState("listeners", "", ""),
            PartState("upstream", "UPSTREAM_CONNECTION", "no answer in 33 s"),
            PartState("log", "", "12 lines lost"),
            PartState("workers", "", "worker 2 is starting again (ended by SIGKILL)"),
        ],
        workers=[
            worker(1, ready=False, reason="UPSTREAM_CONNECTION"),
            worker(
                2,
                pid=None,
                ready=False,
                fault="is starting again (ended by SIGKILL)",
                calls=None,
                watches=None,
                memory_bytes=None,
                uptime_seconds=None,
                restarts=3,
            ),
            worker(3, fault="hasn't answered for 7 s"),
        ],
        credentials=shape.CredentialState(
            usable=False, expires=None, expires_in_seconds=None
        ),
        certificates=[
            certificate(86_400.0, fault="tls.cert_file: it isn't PEM"),
            certificate(-1.0),
        ],
        keys=shape.KeyState(
            keys=0, age_seconds=None, due_seconds=5.0, fault="status 401"
        ),
    )
    return replace(state, **changes)


def hostile() -> shape.Snapshot:
    """Return a state in which every text is hostile."""
    return with_faults(
        host=HOSTILE,
        version=HOSTILE,
        python_version=HOSTILE,
        grpc_version=HOSTILE,
        reason=HOSTILE,
        parts=[PartState(HOSTILE, HOSTILE, HOSTILE)],
        workers=[worker(reason=HOSTILE, fault=HOSTILE)],
        addresses=[HOSTILE],
        admin_address=HOSTILE,
        region=HOSTILE,
        endpoint=HOSTILE,
        quota=[quota(slot(0, used=1), account=HOSTILE)],
        errors=errors(
            error(
                HOSTILE,
                code=HOSTILE,
                method=HOSTILE,
                request_id=HOSTILE,
                identity=HOSTILE,
            )
        ),
        certificates=[certificate(1.0, section=HOSTILE, fingerprint=HOSTILE)],
        keys=shape.KeyState(keys=1, age_seconds=1.0, due_seconds=1.0, fault=HOSTILE),
        rules=[
            shape.RuleState(rule=1, identity=HOSTILE, methods=[HOSTILE], calls=1),
        ],
        settings=[shape.Setting(name=HOSTILE, value=HOSTILE, is_default=False)],
    )
