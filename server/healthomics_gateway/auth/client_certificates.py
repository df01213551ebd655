"""Reads the identity in a client's certificate, and checks that it is valid now.

The chain was verified in the handshake. A connection, or a resumed TLS session, can
last longer than the certificate, so the dates are checked for every call.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from cachetools import LRUCache
from cryptography import x509

from healthomics_gateway.auth.policy import ANONYMOUS, Credential
from healthomics_gateway.auth.spiffe import SCHEME, is_spiffe_id
from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Reason

MAX_KNOWN = 10_000  # certificates that are cached

_DNS_NAME = re.compile(r"(\*\.)?[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")


@dataclass(frozen=True, slots=True)
class _Named:
    """The cached contents of a certificate."""

    identity: str
    since: float  # seconds since 1970
    until: float


class ClientCertificates:
    """Reads the identities in client certificates, and caches them."""

    def __init__(self, *, now: Callable[[], float] = time.time) -> None:
        """Start with an empty cache; `now` returns seconds since 1970."""
        self._now = now
        self._known: LRUCache[bytes, _Named] = LRUCache(MAX_KNOWN)

    def credential_of(self, pem: bytes) -> Credential:
        """Return the identity in a certificate, and until when it is valid.

        The identity is the SPIFFE ID, else the first DNS name, else the subject (RFC
        4514). Raises TOKEN_EXPIRED, and TOKEN_INVALID if the certificate has no
        identity or isn't valid yet.
        """
        named = self._known.get(pem)
        if named is None:
            named = self._known[pem] = _read(pem)
        now = self._now()
        if now > named.until:
            raise GatewayError(Reason.TOKEN_EXPIRED)
        if now < named.since:
            raise GatewayError(Reason.TOKEN_INVALID)
        return Credential(named.identity, until=named.until)


def _read(pem: bytes) -> _Named:
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        identity = _identity_in(certificate)
        since = certificate.not_valid_before_utc.timestamp()
        until = certificate.not_valid_after_utc.timestamp()
    except Exception:  # noqa: BLE001  # a certificate that can't be parsed for any reason proves nothing
        raise GatewayError(Reason.TOKEN_INVALID) from None
    if not identity or identity == ANONYMOUS or not identity.isprintable():
        raise GatewayError(Reason.TOKEN_INVALID)
    return _Named(identity, since, until)


def _identity_in(certificate: x509.Certificate) -> str:
    """Return the identity; empty if there is none, or if its SPIFFE ID is invalid."""
    names = _alternative_names(certificate)
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if any(uri.strip().lower().startswith(SCHEME) for uri in uris):
        is_one = len(uris) == 1 and is_spiffe_id(uris[0])
        return uris[0] if is_one else ""  # several would be several identities
    dns = names.get_values_for_type(x509.DNSName)
    if dns:  # an authority may not have checked them as it checks URIs
        return dns[0].lower() if _DNS_NAME.fullmatch(dns[0]) else ""
    return certificate.subject.rfc4514_string()


def _alternative_names(certificate: x509.Certificate) -> x509.SubjectAlternativeName:
    try:
        return certificate.extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        ).value
    except x509.ExtensionNotFound:
        return x509.SubjectAlternativeName([])
