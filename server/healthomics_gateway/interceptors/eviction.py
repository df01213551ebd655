"""Calls that the gateway ends early, each with an error of its own."""

from __future__ import annotations

import asyncio
from typing import Any

from healthomics_gateway.errors.exceptions import GatewayError


class Evictions:
    """Cancels the tasks of calls, and turns each cancellation into an error.

    A stage that evicts calls `check` where its call is cancelled: a cancellation by the
    client stays one.
    """

    def __init__(self) -> None:
        """Begin with no call evicted."""
        self._errors: dict[asyncio.Task[Any], GatewayError] = {}

    def evict(self, task: asyncio.Task[Any], error: GatewayError) -> None:
        """End the call that runs in `task` with `error`."""
        self._errors[task] = error
        task.cancel()

    def check(self, task: asyncio.Task[Any]) -> None:
        """Raise the error that the call of `task` was ended with, if it was."""
        error = self._errors.pop(task, None)
        if error:
            task.uncancel()
            raise error from None

    def forget(self, task: asyncio.Task[Any]) -> None:
        """Drop the error of a call that ended by itself before it was cancelled."""
        self._errors.pop(task, None)
