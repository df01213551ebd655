"""Composes what proves, authorizes and limits callers from the settings."""

from __future__ import annotations

from collections.abc import Callable

from healthomics_gateway.app.interceptor_stack import Bounds, Guards
from healthomics_gateway.app.reload_change import rules_of
from healthomics_gateway.app.sharing import Sharing
from healthomics_gateway.app.sharing_wiring import make_caller_limits
from healthomics_gateway.auth.keyring import Keyring, keyring_of
from healthomics_gateway.auth.tokens import Tokens
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.interceptors.concurrency import Admission
from healthomics_gateway.interceptors.credential_expiry import CredentialExpiry
from healthomics_gateway.interceptors.send_buffer import SendBuffer
from healthomics_gateway.interceptors.stream_writer import Writer
from healthomics_gateway.settings.listener_settings import asks_for_certificates
from healthomics_gateway.settings.schema import Jwt, Settings
from healthomics_gateway.telemetry.metrics.registry import Metrics


def make_keyring(
    jwt: Jwt, *, report: Callable[[Reason | None], None]
) -> Keyring | None:
    """Return the keys of the issuer, or None if tokens aren't verified."""
    return keyring_of(
        jwt.jwks_file,
        jwt.jwks_url,
        ca_file=jwt.ca_file,
        token_file=jwt.jwks_token_file,
        report=report,
    )


def make_tokens(jwt: Jwt, keyring: Keyring) -> Tokens:
    """Create the verification of tokens."""
    return Tokens(
        keyring,
        issuer=jwt.issuer or "",
        audiences=jwt.audience,
        algorithms=jwt.algorithms,
        identity_claim=jwt.identity_claim,
        audience_claim=jwt.audience_claim,
        leeway_seconds=jwt.leeway.total_seconds(),
    )


def make_guards(
    settings: Settings,
    keyring: Keyring | None,
    *,
    metrics: Metrics,
    sharing: Sharing | None = None,
) -> Guards:
    """Create the interceptors that authenticate, authorize and limit callers."""
    expiry = CredentialExpiry()
    if keyring:
        keyring.on_change(expiry.check)
    return Guards(
        rules_of(settings),
        limits=make_caller_limits(sharing),
        rule_calls=metrics.rules,
        by_token=make_tokens(settings.jwt, keyring).credential_of if keyring else None,
        expiry=expiry,
        asks_for_certificates=asks_for_certificates(settings),
    )


def make_bounds(settings: Settings) -> Bounds:
    """Create the limits on calls that all listeners share."""
    send_buffer = SendBuffer()
    return Bounds(
        admission=Admission(max_in_flight=settings.max_in_flight),
        watching=Admission(max_in_flight=settings.watch.max_open),
        send_buffer=send_buffer,
        writer=Writer(send_buffer),
    )
