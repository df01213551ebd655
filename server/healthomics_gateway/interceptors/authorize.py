"""Checks a caller's permission by the operator's rules, before its message is read."""

from __future__ import annotations

from typing import Any

from healthomics_gateway.auth.policy import ANONYMOUS, Policy
from healthomics_gateway.context import CallContext, Handler, Interceptor
from healthomics_gateway.runs.source import Caller


def authorize(policy: Policy, method: str) -> Interceptor:
    """Raise CALLER_NOT_AUTHORIZED if the caller may not call `method`.

    `method` is its name in the rules. From here on, limits and turns depend on the
    caller's identity instead of its host.
    """

    def intercept(proceed: Handler) -> Handler:
        async def handle(incoming: Any, call: CallContext) -> bytes:
            identity = call.identity
            call.access = policy.find(identity)
            call.access.check_method(method)
            if identity != ANONYMOUS:
                call.caller = Caller(identity, call.peer)
            return await proceed(incoming, call)

        return handle

    return intercept
