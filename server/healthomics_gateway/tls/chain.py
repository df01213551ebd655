"""Checks what clients look at in a certificate chain: its issuers and its names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from healthomics_gateway.tls.files import when_text

_UNREADABLE = (ValueError, x509.DuplicateExtension, x509.InvalidVersion)
_NOT_ISSUED = (InvalidSignature, TypeError, UnsupportedAlgorithm, ValueError)


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return the DNS names and IP addresses in subjectAltName.

    Clients of gRPC don't look at the common name.
    """
    kind = x509.SubjectAlternativeName
    try:
        names = certificate.extensions.get_extension_for_class(kind).value
    except (*_UNREADABLE, x509.ExtensionNotFound):
        return ()
    addresses = map(str, names.get_values_for_type(x509.IPAddress))
    return (*names.get_values_for_type(x509.DNSName), *addresses)


def covers(names: Sequence[str], host: str) -> bool:
    """Return whether one of the names is that of a host (RFC 9525, section 6.3)."""
    host = host.rstrip(".").lower()
    _, _, parent = host.partition(".")
    return any(name.lower() in (host, f"*.{parent}") for name in names)


def chain_faults(chain: Sequence[x509.Certificate], now: datetime) -> Iterator[str]:
    """Yield the faults of the certificates after the first.

    Whether the last issuer is one that clients trust can't be known here.
    """
    current, *others = chain
    left = dict(enumerate(others, start=2))
    while issuer := next(
        (at for at, each in left.items() if _is_issued(current, each)), None
    ):
        current = left.pop(issuer)
        if now > current.not_valid_after_utc:
            until = when_text(current.not_valid_after_utc)
            yield f"certificate {issuer} expired on {until}; replace the chain"
    for at in left:
        yield (
            f"certificate {at} isn't an issuer of the first; write the server's"
            " certificate, then that of each issuer"
        )


def _is_issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except _NOT_ISSUED:
        return False
    return True
