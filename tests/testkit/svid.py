"""An authority that certifies clients: SPIFFE IDs, DNS names, subjects, any dates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, both PEM."""

    cert: bytes
    key: bytes


class Authority:
    """Signs any certificate."""

    def __init__(self, name: str = "clients") -> None:
        """Begin with a new key."""
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        builder = _builder(self._name, self._name, self._key.public_key())
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        builder = builder.add_extension(constraints, critical=True)
        self._own = builder.sign(self._key, hashes.SHA256())
        self.pem = self._own.public_bytes(Encoding.PEM)

    def certify(
        self,
        *uris: str,
        dns: Sequence[str] = (),
        subject: str = "",
        since: timedelta = -HOUR,
        until: timedelta = HOUR,
    ) -> Pair:
        """Certify a new key; `since` and `until` are relative to now."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(
            _name(subject), self._name, key.public_key(), since=since, until=until
        )
        names = [
            *(x509.UniformResourceIdentifier(uri) for uri in uris),
            *(x509.DNSName(name) for name in dns),
        ]
        if names:
            alternative = x509.SubjectAlternativeName(names)
            builder = builder.add_extension(alternative, critical=not subject)
        signed = builder.sign(self._key, hashes.SHA256())
        return Pair(
            signed.public_bytes(Encoding.PEM),
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        )


def _name(common_name: str) -> x509.Name:
    part = x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name or "unnamed")
    return x509.Name([part] if common_name else [])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    *,
    since: timedelta = -HOUR,
    until: timedelta = HOUR,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + since)
        .not_valid_after(now + until)
    )
