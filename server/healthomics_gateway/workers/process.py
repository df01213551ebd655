"""Runs the supervisor of a gateway with workers in this process."""

from __future__ import annotations

import asyncio
import os
from contextlib import redirect_stderr

import structlog

from healthomics_gateway.app.sd_notify import ServiceManager
from healthomics_gateway.app.shutdown import Signals, end_now
from healthomics_gateway.telemetry.log_level import LogLevel
from healthomics_gateway.telemetry.log_setup import Printed, set_up_logging
from healthomics_gateway.workers.program import Program
from healthomics_gateway.workers.supervisor import FORCE_SECONDS, Started, Supervisor
from healthomics_gateway.workers.zygote_link import ZygoteLink

_log = structlog.get_logger("process")


async def supervise(
    program: Program,
    link: ZygoteLink,
    *,
    sandbox: str = "",
    started: Started | None = None,
) -> None:
    """Serve by workers until SIGTERM, SIGINT or SIGHUP; end the process with 0.

    If there is a configuration file, the workers follow it, and SIGHUP reloads it
    instead. A second signal ends the drain, and a third the process. Raises
    ConfigurationError if the gateway can't start.
    """
    settings, third = program.settings, asyncio.Event()
    loop = asyncio.get_running_loop()
    log = set_up_logging(
        level=LogLevel(settings.log.level),
        log_format=settings.log.format,
        lock=program.log_lock,
    )
    signals = Signals(
        settings.drain_time.total_seconds(),
        force_seconds=FORCE_SECONDS,
        end_now=lambda _: loop.call_soon_threadsafe(third.set),
        reloads=program.config is not None,
    )
    supervisor = Supervisor(
        program,
        link,
        signals=signals,
        third=third,
        observer=ServiceManager(os.environ),
    )
    with redirect_stderr(Printed()):
        code = await supervisor.run(sandbox=sandbox, started=started)
        _log.info("stopped", exit_code=code)
        end_now(log, code)
