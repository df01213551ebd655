"""The certificate of a call's client."""

from __future__ import annotations

from typing import Any

from grpc.aio import ServicerContext


def certificate_of(rpc: ServicerContext[Any, Any]) -> bytes | None:
    """Return the verified certificate of a call's client as PEM, or None."""
    shown = rpc.auth_context().get("x509_pem_cert")
    return next(iter(shown)) if shown else None
