"""What the caller may: the operator's rules, before its message is read."""

from __future__ import annotations

from typing import Any

from healthomics_gateway.auth.policy import ANONYMOUS, Policy
from healthomics_gateway.context import CallContext, Handler, Interceptor
from healthomics_gateway.runs.source import Caller


def authorize(policy: Policy, method: str) -> Interceptor:
    """Let those through who may call `method`, by the rules' name of it.

    From here on the caller's identity has the turns, whatever host it calls from.
    """

    def intercept(proceed: Handler) -> Handler:
        async def handle(incoming: Any, context: CallContext) -> bytes:
            identity = context.identity
            context.access = policy.access_of(identity, method)
            if identity != ANONYMOUS:
                context.caller = Caller(identity, context.peer)
            return await proceed(incoming, context)

        return handle

    return intercept
