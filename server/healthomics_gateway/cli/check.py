"""The command `check`."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from argparse import Namespace
from contextlib import aclosing
from typing import NoReturn

import structlog

from healthomics_gateway.check.found import Found
from healthomics_gateway.check.runner import run_steps
from healthomics_gateway.check.steps import STEPS, TOTAL_SECONDS
from healthomics_gateway.cli.check_view import view_of
from healthomics_gateway.cli.usage import DONE, FAILED
from healthomics_gateway.sandbox.account import ACCESS_KEY_ID
from healthomics_gateway.telemetry.log_setup import CLOSED


def check(options: Namespace) -> int:
    """Run all steps and show their results; return DONE if none has failed."""
    _silence_logs()
    return DONE if asyncio.run(_check(options)) else FAILED


async def _check(options: Namespace) -> bool:
    found = Found(
        environ=os.environ,
        config_file=options.config,
        run_id=options.run_id,
        log_file=sys.stderr.fileno() if sys.stderr else CLOSED,
        fake_keys=frozenset({ACCESS_KEY_ID}),
    )
    try:
        with view_of(is_json=options.json) as view:
            steps = run_steps(
                STEPS, found, total_seconds=TOTAL_SECONDS, began=view.began
            )
            async with aclosing(steps):
                async for ended in steps:
                    view.show(ended)
            return view.summarize()
    finally:
        await found.close()


def _silence_logs() -> None:
    """Drop the events of the gateway and of libraries: the steps report the faults."""
    structlog.configure(processors=[_drop])
    logging.disable(logging.CRITICAL)


def _drop(_logger: object, _method: str, _event: object) -> NoReturn:
    raise structlog.DropEvent
