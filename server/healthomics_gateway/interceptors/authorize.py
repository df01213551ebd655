"""Checks a caller's permission by the operator's rules, before its message is read."""

from __future__ import annotations

import asyncio
from typing import Any

from healthomics_gateway.auth.policy import ANONYMOUS, Access, Policy
from healthomics_gateway.context import CallContext, Handler, Interceptor
from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.interceptors.eviction import Evictions
from healthomics_gateway.runs.source import Caller

CHECKED_AT_ONCE = 256  # long calls, before other calls run


class Authorization:
    """Checks the permission of each call, and that of long calls again on new rules."""

    def __init__(self, policy: Policy) -> None:
        """Check by `policy`, whose rules may be replaced."""
        self._policy = policy
        # The long calls and their methods.
        self._lasting: dict[asyncio.Task[Any], tuple[CallContext, str]] = {}
        self._evictions = Evictions()

    def once(self, method: str) -> Interceptor:
        """Raise CALLER_NOT_AUTHORIZED if the caller may not call `method`.

        `method` is its name in the rules. From here on, limits and turns depend on the
        caller's identity instead of its host.
        """

        def intercept(proceed: Handler) -> Handler:
            async def handle(incoming: Any, call: CallContext) -> bytes:
                identity = call.identity
                call.access = self._policy.find(identity)
                call.access.check_method(method)
                if identity != ANONYMOUS:
                    call.caller = Caller(identity, call.peer)
                return await proceed(incoming, call)

            return handle

        return intercept

    def lasting(self, method: str) -> Interceptor:
        """Do as `once`, and keep the call for `check`, which may end it."""

        def intercept(proceed: Handler) -> Handler:
            async def handle(incoming: Any, call: CallContext) -> bytes:
                task = call.task
                self._lasting[task] = call, method
                try:
                    with self._evictions.scope(task):
                        return await proceed(incoming, call)
                finally:
                    del self._lasting[task]

            return self.once(method)(handle)

        return intercept

    async def check(self) -> None:
        """Check all long calls by the rules as they are now.

        A call ends with CALLER_NOT_AUTHORIZED if its caller may no longer make it, if
        runs are now read with another role for the caller, or if it is a watch of a run
        that the caller may no longer see.
        """
        for number, (call, method) in enumerate(tuple(self._lasting.values()), 1):
            if call.task in self._lasting and not call.is_revoked:
                self._check(call, method)
            if number % CHECKED_AT_ONCE == 0:
                await asyncio.sleep(0)  # so that other calls can run

    def _check(self, call: CallContext, method: str) -> None:
        try:
            access = self._policy.access_of(call.identity, method)
        except GatewayError as error:
            self._revoke(call, error)
            return
        is_same_role = access.partition == call.access.partition
        call.access = access
        if not (is_same_role and _shows_nothing_hidden(call, access)):
            self._revoke(call, GatewayError(Reason.CALLER_NOT_AUTHORIZED))

    def _revoke(self, call: CallContext, error: GatewayError) -> None:
        call.is_revoked = True
        self._evictions.evict(call.task, error)


def _shows_nothing_hidden(call: CallContext, access: Access) -> bool:
    """Return whether the caller may see the run that the call has shown, if any."""
    run = call.watched() if call.watched else None
    return run is None or access.sees(run)
