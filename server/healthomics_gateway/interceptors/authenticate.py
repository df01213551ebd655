"""Who calls: what a certificate and a token prove, and that they agree."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from grpc.aio import ServicerContext

from healthomics_gateway.access import ANONYMOUS
from healthomics_gateway.errors import GatewayError, Reason
from healthomics_gateway.interceptors.exchange import Exchange, Handler, Stage
from healthomics_gateway.tokens import bearer

# Gives the identity that a connection's certificate proves, None where it has none, or
# raises TOKEN_INVALID or TOKEN_EXPIRED.
ByCertificate: TypeAlias = Callable[[ServicerContext[Any, Any]], str | None]
# Gives the identity that a token proves, or raises AUTH_BACKEND_UNAVAILABLE too.
ByToken: TypeAlias = Callable[[str], Awaitable[str]]


def authenticate(
    *,
    by_certificate: ByCertificate | None,
    by_token: ByToken | None,
    lets_in_anonymous: bool,
) -> Stage:
    """Find out each caller's identity; raise TOKEN_MISSING where one is needed."""

    async def identity_of(context: ServicerContext[Any, Any]) -> str:
        certified = by_certificate(context) if by_certificate else None
        metadata: Any = context.invocation_metadata() or ()
        token = bearer(metadata) if by_token else None
        told = await by_token(token) if by_token and token else None
        if certified and told and certified != told:
            raise GatewayError(Reason.TOKEN_INVALID)
        identity = certified or told
        if identity is None and not lets_in_anonymous:
            raise GatewayError(Reason.TOKEN_MISSING)
        return identity or ANONYMOUS

    def stage(proceed: Handler) -> Handler:
        async def handle(incoming: Any, exchange: Exchange) -> bytes:
            exchange.identity = await identity_of(exchange.context)
            return await proceed(incoming, exchange)

        return handle

    return stage
