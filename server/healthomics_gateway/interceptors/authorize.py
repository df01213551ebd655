"""What the caller may: the operator's rules, before its message is read."""

from __future__ import annotations

from typing import Any

from healthomics_gateway.auth.policy import ANONYMOUS, Policy, access
from healthomics_gateway.context import Exchange, Handler, Stage
from healthomics_gateway.runs.source import Caller, caller


def authorize(policy: Policy, method: str) -> Stage:
    """Let those through who may call `method`, by the rules' name of it.

    From here on the caller's identity has the turns, whatever host it calls from.
    """

    def stage(proceed: Handler) -> Handler:
        async def handle(incoming: Any, exchange: Exchange) -> bytes:
            identity = exchange.identity
            access.set(policy.access_of(identity, method))
            if identity != ANONYMOUS:
                caller.set(Caller(identity, exchange.peer))
            return await proceed(incoming, exchange)

        return handle

    return stage
