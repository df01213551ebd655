"""The process of a gateway: its start, its signals, its end."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import NoReturn

import structlog

from healthomics_gateway.app import Gateway
from healthomics_gateway.log_writer import LogWriter
from healthomics_gateway.schema import Settings
from healthomics_gateway.telemetry import FLUSH_SECONDS, set_up_logging
from healthomics_gateway.upstream.aws import Aws

_log = structlog.get_logger("process")


async def serve(
    settings: Settings,
    aws: Aws,
    *,
    started: Callable[[Gateway], Awaitable[None]] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain and end the process with 0.

    A second signal ends it at once. Raises ListenError where it can't listen.
    """
    log = set_up_logging(level=settings.log.level, log_format=settings.log.format)
    asked_to_stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
        asked_to_stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    gateway = Gateway(settings, aws, parts={"log": log.fault})
    try:
        await gateway.start()
        # What is there now stays. A collection that walks it too, the SDK's 100,000
        # objects, holds up every call for a tenth of a second.
        gc.collect()
        gc.freeze()
        if started:
            await started(gateway)
        await asked_to_stop.wait()
        await gateway.drain(settings.drain_time.total_seconds())
        _end_process(log)
    finally:
        await gateway.stop()


def _end_process(log: LogWriter) -> NoReturn:
    """End well, without a word to gRPC.

    A server that stops cancels whoever calls before having heard of it. The end of the
    process cuts the connections instead, and then a call is UNAVAILABLE.
    """
    _log.info("stopped")
    log.flush(FLUSH_SECONDS)
    with suppress(OSError):  # its reader may be gone
        if sys.stdout:
            sys.stdout.flush()
    os._exit(0)
