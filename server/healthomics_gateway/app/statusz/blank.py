"""The status page of a gateway whose workers haven't reported yet."""

from __future__ import annotations

import platform
from datetime import datetime

from healthomics_gateway.app.statusz import shape
from healthomics_gateway.app.statusz.bounds import clipped
from healthomics_gateway.version import VERSION

UNKNOWN = "unknown"


def blank(now: datetime) -> shape.Snapshot:
    """Return the state of a gateway of which nothing is known but its process."""
    return shape.Snapshot(
        host=clipped(platform.node()),
        version=VERSION,
        python_version=platform.python_version(),
        grpc_version=UNKNOWN,
        time=now,
        started=now,
        uptime_seconds=0.0,
        ready=False,
        reason="",
        live=True,
        draining=False,
        parts=(),
        workers=(),
        addresses=(),
        admin_address="",
        region=UNKNOWN,
        endpoint=UNKNOWN,
        calls=shape.Calls(open=0, max_open=0),
        quota=(),
        watches=shape.WatchState(open=0, max_open=0, runs=0),
        cache=shape.CacheState(runs=0, bytes=0, max_bytes=0, hits=0, misses=0),
        errors=shape.ErrorState(by_reason=(), newest=()),
        credentials=shape.CredentialState(
            usable=False, expires=None, expires_in_seconds=None
        ),
        certificates=(),
        keys=None,
        rules=(),
        calls_without_rule=0,
        settings=(),
        left_out={},
    )
