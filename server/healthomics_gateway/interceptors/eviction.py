"""Ends calls early, each with an error."""

from __future__ import annotations

import asyncio
from typing import Any

from healthomics_gateway.errors.exceptions import GatewayError


class Evictions:
    """Cancels the tasks of calls, and turns each cancellation into an error.

    An interceptor that evicts calls handles each of them in a `scope`. A cancellation
    by the client stays a cancellation.
    """

    def __init__(self) -> None:
        """Start with no evicted calls."""
        self._errors: dict[asyncio.Task[Any], GatewayError] = {}

    def evict(self, task: asyncio.Task[Any], error: GatewayError) -> None:
        """End the call that runs in `task` with `error`."""
        self._errors[task] = error
        task.cancel()

    def scope(self, task: asyncio.Task[Any]) -> _Scope:
        """Return the context in which the call that runs in `task` may be evicted.

        It raises the error of the call if it was evicted. It forgets the error of a
        call that ends before its cancellation arrives.
        """
        return _Scope(self._errors, task)


class _Scope:
    """A context manager for each call; `contextmanager` would be slower."""

    __slots__ = ("_errors", "_task")

    def __init__(
        self, errors: dict[asyncio.Task[Any], GatewayError], task: asyncio.Task[Any]
    ) -> None:
        self._errors = errors
        self._task = task

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, _kind: object, raised: BaseException | None, _traceback: object
    ) -> None:
        error = self._errors.pop(self._task, None)
        if error and isinstance(raised, asyncio.CancelledError):
            self._task.uncancel()
            raise error from None
