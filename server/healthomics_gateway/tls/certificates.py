"""Parses and checks certificate chains, private keys and client authorities in PEM.

They are serialized again after parsing, so gRPC gets exactly what was checked.
"""

from __future__ import annotations

import warnings
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.utils import CryptographyDeprecationWarning

from healthomics_gateway.pem import Block, blocks_of

# The keys that gRPC clients can connect to, found by handshakes of grpcio 1.80 and Go
# 1.24: grpcio doesn't offer signatures of P-521 and Ed25519. RSA: BoringSSL accepts no
# larger keys, and OpenSSL's clients accept no smaller ones.
CURVES = ("secp256r1", "secp384r1")
RSA_BITS = range(2048, 16_385)
# Clients of gRPC and OpenSSL verify a chain of 101 certificates and read 100 KiB of
# them, found by handshakes of grpcio 1.80; Java's accept ten certificates by default.
MAX_CHAIN = 10
MAX_CHAIN_BYTES = 100_000  # in DER

Extension = TypeVar("Extension", bound=x509.ExtensionType)

# The library warns of certificates that a later version will refuse, such as those with
# a negative serial number. These warnings would only fill the log. The filter is set
# once, as `warnings.catch_warnings` isn't safe if several threads read certificates.
warnings.filterwarnings("ignore", category=CryptographyDeprecationWarning)

_CERTIFICATES = ("CERTIFICATE", "X509 CERTIFICATE")
_UNREADABLE = (ValueError, UnsupportedAlgorithm, x509.InvalidVersion)


def parse_chain(content: bytes) -> list[x509.Certificate]:
    """Return a certificate chain; the file may hold the key too. Raises ValueError."""
    blocks = [each for each in blocks_of(content) if not _is_of_key(each)]
    if len(blocks) > MAX_CHAIN:
        raise ValueError(f"a chain has at most {MAX_CHAIN} certificates")
    chain = _parse_certificates(blocks)
    if sum(len(each.public_bytes(Encoding.DER)) for each in chain) > MAX_CHAIN_BYTES:
        raise ValueError(f"a chain has at most {MAX_CHAIN_BYTES:,} bytes in DER")
    return chain


def parse_authorities(content: bytes) -> list[x509.Certificate]:
    """Return the certificates of authorities. Raises ValueError.

    A revocation list is an error, as gRPC would ignore it.
    """
    certificates = _parse_certificates(blocks_of(content))
    for at, each in enumerate(certificates, start=1):
        if not _may_be_authority(each):
            raise ValueError(f"certificate {at} isn't that of an authority")
    return certificates


def parse_key(content: bytes) -> PrivateKeyTypes:
    """Return a private key; the file may hold the chain too. Raises ValueError."""
    keys = [each for each in blocks_of(content) if each.label.endswith("PRIVATE KEY")]
    if len(keys) != 1:
        raise ValueError(
            "it contains more than one private key"
            if keys
            else "it contains no private key in PEM"
        )
    try:
        key = load_pem_private_key(keys[0].pem, password=None)
    except TypeError:  # raised if the key is encrypted
        raise ValueError("the key is encrypted; save it without a password") from None
    except _UNREADABLE:
        raise ValueError("the private key can't be read") from None
    if not _is_supported(key):
        raise ValueError(
            "gRPC clients don't support a key of this kind; use P-256, P-384, or"
            f" RSA with {RSA_BITS[0]} to {RSA_BITS[-1]} bits"
        )
    return key


def is_pair(certificate: x509.Certificate, key: PrivateKeyTypes) -> bool:
    """Return whether a key is that of a certificate."""
    try:
        return certificate.public_key() == key.public_key()
    except _UNREADABLE:
        return False


def certificates_pem(certificates: list[x509.Certificate]) -> bytes:
    """Return certificates as PEM."""
    return b"".join(each.public_bytes(Encoding.PEM) for each in certificates)


def key_pem(key: PrivateKeyTypes) -> bytes:
    """Return a private key as PEM, not encrypted."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _parse_certificates(blocks: list[Block]) -> list[x509.Certificate]:
    found = []
    for at, (label, pem) in enumerate(blocks, start=1):
        if label not in _CERTIFICATES:
            raise ValueError(f"block {at} isn't a certificate but {label}")
        try:
            found.append(x509.load_pem_x509_certificate(pem))
        except _UNREADABLE:
            raise ValueError(f"certificate {at} can't be read") from None
    if not found:
        raise ValueError("it contains no certificate in PEM")
    return found


def _may_be_authority(certificate: x509.Certificate) -> bool:
    """Return whether a certificate may issue others.

    A self-signed root without extensions may. This is checked because gRPC accepts what
    any certificate in the file has signed, even a client's certificate.
    """
    try:
        uses = _extension(certificate, x509.KeyUsage)
        constraints = _extension(certificate, x509.BasicConstraints)
    except (*_UNREADABLE, x509.DuplicateExtension):
        return False
    if uses and not uses.key_cert_sign:
        return False
    return constraints.ca if constraints else certificate.issuer == certificate.subject


def _extension(
    certificate: x509.Certificate, kind: type[Extension]
) -> Extension | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _is_of_key(block: Block) -> bool:
    return block.label.endswith(("PRIVATE KEY", " PARAMETERS"))


def _is_supported(key: PrivateKeyTypes) -> bool:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.curve.name in CURVES
    return isinstance(key, rsa.RSAPrivateKey) and key.key_size in RSA_BITS
