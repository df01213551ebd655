"""Ends long calls, such as watches, when their credentials expire or are withdrawn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

from healthomics_gateway.auth.policy import Credential
from healthomics_gateway.context import CallContext, Handler
from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.interceptors.eviction import Evictions

MAX_WAIT_SECONDS = 3600.0  # of one timer, as the system clock may be set meanwhile


class Timer(Protocol):
    """A timer, as returned by `call_later`."""

    def cancel(self) -> None:
        """Cancel the timer."""


CallLater: TypeAlias = Callable[[float, Callable[[], None]], Timer]


class CredentialExpiry:
    """Watches the credentials of long calls, with one timer for each call.

    Unary calls don't need this: they end by `max_deadline`.
    """

    def __init__(
        self,
        *,
        now: Callable[[], float] = time.time,
        call_later: CallLater | None = None,
    ) -> None:
        """Start with no calls; `now` returns seconds since 1970."""
        self._now = now
        self._call_later = call_later or asyncio.get_running_loop().call_later
        self._lasting: dict[asyncio.Task[Any], tuple[Credential, ...]] = {}
        self._timers: dict[asyncio.Task[Any], Timer] = {}
        self._evictions = Evictions()

    def intercept(self, proceed: Handler) -> Handler:
        """End a call with TOKEN_EXPIRED, or TOKEN_INVALID if a credential is withdrawn.

        The call must have been authenticated before.
        """

        async def handle(incoming: Any, call: CallContext) -> bytes:
            if not call.credentials:
                return await proceed(incoming, call)
            task = call.task
            self._lasting[task] = call.credentials
            self._check_expiry(task)
            try:
                with self._evictions.scope(task):
                    return await proceed(incoming, call)
            finally:
                self._forget(task)

        return handle

    def check(self) -> None:
        """End the calls whose credentials are withdrawn. Call it when keys change."""
        for task, credentials in tuple(self._lasting.items()):
            if not all(each.holds() for each in credentials):
                self._end(task, Reason.TOKEN_INVALID)

    def _check_expiry(self, task: asyncio.Task[Any]) -> None:
        """End a call whose credential has expired, or set a timer for its expiry."""
        left_seconds = min(each.until for each in self._lasting[task]) - self._now()
        if left_seconds <= 0:
            self._end(task, Reason.TOKEN_EXPIRED)
        else:
            self._timers[task] = self._call_later(
                min(left_seconds, MAX_WAIT_SECONDS), lambda: self._check_expiry(task)
            )

    def _end(self, task: asyncio.Task[Any], why: Reason) -> None:
        self._forget(task)  # so that it isn't ended twice
        self._evictions.evict(task, GatewayError(why))

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._lasting.pop(task, None)
        if timer := self._timers.pop(task, None):
            timer.cancel()
