"""Ends calls early, each with an error."""

from __future__ import annotations

import asyncio
from typing import Any

from healthomics_gateway.errors.exceptions import GatewayError


class Evictions:
    """Cancels the tasks of calls, and turns each cancellation into an error.

    An interceptor that evicts calls `check` when a call is cancelled. A cancellation by
    the client stays a cancellation.
    """

    def __init__(self) -> None:
        """Start with no evicted calls."""
        self._errors: dict[asyncio.Task[Any], GatewayError] = {}

    def evict(self, task: asyncio.Task[Any], error: GatewayError) -> None:
        """End the call that runs in `task` with `error`."""
        self._errors[task] = error
        task.cancel()

    def check(self, task: asyncio.Task[Any]) -> None:
        """Raise the error of the call in `task`, if it was evicted."""
        error = self._errors.pop(task, None)
        if error:
            task.uncancel()
            raise error from None

    def forget(self, task: asyncio.Task[Any]) -> None:
        """Forget the error of a call that ended before its cancellation arrived."""
        self._errors.pop(task, None)
