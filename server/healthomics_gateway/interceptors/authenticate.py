"""Who calls: what a certificate and a token prove, and that they agree."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

from grpc.aio import ServicerContext

from healthomics_gateway.access import ANONYMOUS
from healthomics_gateway.errors import GatewayError, Reason
from healthomics_gateway.interceptors.exchange import Exchange, Handler, Stage

Metadata: TypeAlias = Sequence[tuple[str, str | bytes]]
# Each gives an identity, None where there is nothing to prove it by, or raises
# TOKEN_INVALID, TOKEN_EXPIRED or AUTH_BACKEND_UNAVAILABLE.
ByCertificate: TypeAlias = Callable[[ServicerContext[Any, Any]], str | None]
ByToken: TypeAlias = Callable[[Metadata], Awaitable[str | None]]


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
        told = await by_token(metadata) if by_token else None
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
