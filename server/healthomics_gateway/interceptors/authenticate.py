"""Authenticates callers by certificate and token, which must name the same identity."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from grpc.aio import ServicerContext

from healthomics_gateway.auth.policy import ANONYMOUS, Credential
from healthomics_gateway.auth.tokens import bearer, token_refused
from healthomics_gateway.context import CallContext, Handler, Interceptor
from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Reason

# Returns the credential in a connection's certificate, None if there is no certificate.
# Raises TOKEN_INVALID or TOKEN_EXPIRED.
ByCertificate: TypeAlias = Callable[[ServicerContext[Any, Any]], Credential | None]
# Takes a token and the name of the host that sent it; returns the token's credential.
# Raises TOKEN_INVALID, TOKEN_EXPIRED or AUTH_BACKEND_UNAVAILABLE.
ByToken: TypeAlias = Callable[[str, str], Awaitable[Credential]]


def authenticate(
    *,
    by_certificate: ByCertificate | None,
    by_token: ByToken | None,
    allows_anonymous: Callable[[], bool],
) -> Interceptor:
    """Set each call's identity. Raises TOKEN_MISSING if one is required and missing.

    `allows_anonymous` returns whether none is required: it depends on the rules.
    """

    def intercept(proceed: Handler) -> Handler:
        async def handle(incoming: Any, call: CallContext) -> bytes:
            certified = by_certificate(call.rpc) if by_certificate else None
            signed = await _signed(call, by_token) if by_token else None
            if certified and signed and certified.identity != signed.identity:
                raise token_refused("identity of the connection")
            credentials = tuple(each for each in (certified, signed) if each)
            if not credentials and not allows_anonymous():
                raise GatewayError(Reason.TOKEN_MISSING)
            call.credentials = credentials
            call.identity = credentials[0].identity if credentials else ANONYMOUS
            return await proceed(incoming, call)

        return handle

    return intercept


async def _signed(call: CallContext, by_token: ByToken) -> Credential | None:
    """Return the credential in the call's token, None if it has no token."""
    token = bearer(call.headers)
    return await by_token(token, call.caller.name) if token else None
