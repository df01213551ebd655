"""The process of a gateway: its start, its signals and its end."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import redirect_stderr
from dataclasses import replace
from functools import partial
from typing import Any, NoReturn

import structlog

from healthomics_gateway.app.gateway import Gateway
from healthomics_gateway.app.grpc_server import OF_WORKERS, OPTIONS
from healthomics_gateway.app.measuring import make_metrics
from healthomics_gateway.app.parts import Observability
from healthomics_gateway.app.reload import ConfigFile, Reload
from healthomics_gateway.app.sd_notify import ServiceManager
from healthomics_gateway.app.sharing import Sharing, make_worker_sharing
from healthomics_gateway.app.shutdown import (
    DEAD,
    FORCE_SECONDS,
    Signals,
    end_now,
    until,
)
from healthomics_gateway.app.signals import ENDED
from healthomics_gateway.app.supervision import StateObserver, SupervisorLink
from healthomics_gateway.settings.schema import Settings
from healthomics_gateway.telemetry.log_level import LogLevel
from healthomics_gateway.telemetry.log_setup import Printed, set_up_logging
from healthomics_gateway.telemetry.log_writer import LogWriter
from healthomics_gateway.telemetry.metrics.registry import Metrics
from healthomics_gateway.telemetry.tracing_setup import set_up_tracing
from healthomics_gateway.upstream.config import Aws

M_ARENA_MAX = -8  # of glibc's mallopt(3)

_log = structlog.get_logger("process")


async def serve(
    settings: Settings,
    aws: Aws,
    *,
    config: ConfigFile | None = None,
    started: Callable[[Gateway], Awaitable[None]] | None = None,
    metrics: Metrics | None = None,
    force_seconds: float = FORCE_SECONDS,
    supervisor: SupervisorLink | None = None,
) -> None:
    """Serve until SIGTERM, SIGINT or SIGHUP, then drain and end the process with 0.

    If there is a `config`, it is followed, and SIGHUP reloads it instead.

    A second signal ends the drain. The process is ended by force `force_seconds` after
    the drain time, or after a second signal. If new calls can't reach the gateway, the
    process ends with 70. Raises ListenError if an address can't be bound.

    With `supervisor` it is one of several workers, which its supervisor can end too.
    """
    share_memory_arena()
    level = LogLevel(settings.log.level)
    log = _set_up_log(settings, level, supervisor)
    signals = Signals(
        settings.drain_time.total_seconds(),
        force_seconds=force_seconds,
        end_now=partial(end_now, log),
        reloads=config is not None,
    )
    observer: StateObserver = supervisor or ServiceManager(os.environ)
    reload = _make_reload(config, signals, level, observer) if config else None
    gateway = _make_gateway(
        settings,
        aws,
        reload=reload,
        metrics=metrics or make_metrics(),
        log=log,
        supervisor=supervisor,
    )
    if supervisor:
        supervisor.attach(gateway, signals)
    with redirect_stderr(Printed()):
        try:
            starting = _start(gateway, started, observer)
            code = await _run(gateway, starting, signals, observer)
            _end_process(log, code)
        finally:
            await gateway.stop()


def _set_up_log(
    settings: Settings, level: LogLevel, supervisor: SupervisorLink | None
) -> LogWriter:
    """Set up the log, which workers write together."""
    return set_up_logging(
        level=level,
        log_format=settings.log.format,
        worker=supervisor.number if supervisor else None,
        lock=supervisor.log_lock if supervisor else None,
    )


def _make_gateway(
    settings: Settings,
    aws: Aws,
    *,
    reload: Reload | None,
    metrics: Metrics,
    log: LogWriter,
    supervisor: SupervisorLink | None,
) -> Gateway:
    if reload and supervisor:
        reload = replace(reload, used=supervisor.uses)
    return Gateway(
        settings,
        aws,
        reload=reload,
        options=OF_WORKERS if supervisor else OPTIONS,
        observability=Observability(
            metrics=metrics, tracer=set_up_tracing(os.environ), lost_lines=log.lost
        ),
        fault_of_log=log.fault,
        worker=supervisor.number if supervisor else None,
        sharing=_sharing_of(supervisor, settings, aws),
    )


def _sharing_of(
    supervisor: SupervisorLink | None, settings: Settings, aws: Aws
) -> Sharing | None:
    """Return what workers share through their supervisor; None if they don't."""
    if supervisor is None or settings.shared.url:
        return None
    return make_worker_sharing(
        settings, aws, supervisor.store, secret=supervisor.secret
    )


def _make_reload(
    config: ConfigFile, signals: Signals, level: LogLevel, observer: StateObserver
) -> Reload:
    return Reload(
        file=config,
        requested=signals.reload,
        set_log_level=level.set,
        begun=observer.reloading,
        ended=observer.ready,
    )


async def _run(
    gateway: Gateway,
    starting: Coroutine[Any, Any, None],
    signals: Signals,
    observer: StateObserver,
) -> int:
    """Start, serve and drain, as the signals say; return the exit code."""
    if not await until(signals.first, starting):
        gateway.remove_sockets()
        return ENDED
    if await until(signals.first, gateway.died()):
        await gateway.evict()
        return DEAD
    observer.stopping()
    if not await until(signals.second, gateway.drain(signals.drain_seconds)):
        await gateway.evict()
    return ENDED


def share_memory_arena() -> None:
    """Let all threads allocate memory in one arena, if the C library is glibc.

    By default each thread of gRPC has an arena of its own, which keeps the memory of
    the calls of a flood: 30 MiB more than they need.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(M_ARENA_MAX, 1)


async def _start(
    gateway: Gateway,
    started: Callable[[Gateway], Awaitable[None]] | None,
    observer: StateObserver,
) -> None:
    await gateway.start()
    # The objects so far are permanent. A collection that visits them, the SDK's 100,000
    # included, delays all calls by a tenth of a second.
    gc.collect()
    gc.freeze()
    observer.ready()
    observer.feed_watchdog(asyncio.get_running_loop().call_later)
    if started:
        await started(gateway)


def _end_process(log: LogWriter, code: int) -> NoReturn:
    """End the process without stopping the gRPC server.

    A server that stops would end new calls with CANCELLED. The end of the process
    closes the connections instead, so that these calls are UNAVAILABLE.
    """
    _log.info("stopped", exit_code=code)
    end_now(log, code)
