"""The server's certificate, its key and the authorities of clients, read from files.

What is checked is parsed first and written anew from what was parsed, so that gRPC is
handed exactly what was checked.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.utils import CryptographyDeprecationWarning

from healthomics_gateway.faults import FaultsError
from healthomics_gateway.files import FileError, read_regular
from healthomics_gateway.pem import Block, blocks_of

ClientAuth: TypeAlias = Literal["none", "required"]

# What clients of gRPC connect to, by handshakes of grpcio 1.80 and Go 1.24; grpcio
# offers no signature of P-521 and Ed25519. RSA keys: BoringSSL takes no larger ones,
# OpenSSL's clients no smaller ones.
CURVES = ("secp256r1", "secp384r1")
RSA_BITS = range(2048, 16_385)
# Clients of gRPC and OpenSSL follow a chain of 101 certificates and read 100 KiB of
# them, found by handshakes of grpcio 1.80; Java's take ten certificates by default.
MAX_CHAIN = 10
MAX_CHAIN_BYTES = 100_000  # in DER

Parsed = TypeVar("Parsed")
Extension = TypeVar("Extension", bound=x509.ExtensionType)

# The library warns of certificates that it will refuse one day, such as those with a
# negative serial number. The log has no use for that. This is set once, as
# `warnings.catch_warnings` isn't safe where several threads read certificates.
warnings.filterwarnings("ignore", category=CryptographyDeprecationWarning)

_CERTIFICATES = ("CERTIFICATE", "X509 CERTIFICATE")
_UNREADABLE = (ValueError, UnsupportedAlgorithm, x509.InvalidVersion)


class TlsFilesError(FaultsError):
    """The files can't be served from; `args` are the faults, a sentence each."""


class Contents(NamedTuple):
    """What the files hold, as bytes."""

    chain: bytes
    key: bytes
    client_ca: bytes


@dataclass(frozen=True, slots=True)
class Certified:
    """What TLS is served with; it fits together and was valid when it was loaded."""

    read: Contents  # as it is in the files
    served: Contents  # as gRPC is handed it, PEM
    not_after: datetime
    fingerprint: str  # SHA-256 of the server's own certificate


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """The paths of a certificate, its key and the authorities of clients, all PEM."""

    cert_file: Path
    key_file: Path
    client_ca_file: Path | None = None  # read if clients are asked for certificates
    section: str = field(default="tls", compare=False)  # of the settings, for faults

    def load(self, now: datetime) -> Certified:
        """Read and check all of them; raise TlsFilesError with all faults."""
        contents = self.read()
        faults: list[str] = []
        chain = _parsed(_chain_in, contents.chain, f"{self.section}.cert_file", faults)
        key = _parsed(_key_in, contents.key, f"{self.section}.key_file", faults)
        clients: list[x509.Certificate] | None = []
        if self.client_ca_file:
            name = "tls.client_ca_file"
            clients = _parsed(_authorities_in, contents.client_ca, name, faults)
        if chain:
            faults += _faults_of_pair(chain[0], key, now, self.section)
        if faults or not (chain and key) or clients is None:
            raise TlsFilesError(*faults)
        leaf = chain[0]
        return Certified(
            contents,
            Contents(_written(chain), _written_key(key), _written(clients)),
            leaf.not_valid_after_utc,
            leaf.fingerprint(hashes.SHA256()).hex(),
        )

    def read(self) -> Contents:
        """Read them as they are; raise TlsFilesError for those that can't be read."""
        files = {
            f"{self.section}.cert_file": self.cert_file,
            f"{self.section}.key_file": self.key_file,
        }
        if self.client_ca_file:
            files["tls.client_ca_file"] = self.client_ca_file
        read, faults = [], []
        for name, file in files.items():
            try:
                read.append(read_regular(file))
            except FileError as fault:
                faults.append(f"{name}: {fault}")
        if faults:
            raise TlsFilesError(*faults)
        chain, key, client_ca = (*read, b"")[:3]
        return Contents(chain, key, client_ca)


def when_text(when: datetime) -> str:
    """Write a time as faults and the log do."""
    return f"{when:%Y-%m-%dT%H:%M:%SZ}"


def _parsed(
    parse: Callable[[list[Block]], Parsed],
    content: bytes,
    name: str,
    faults: list[str],
) -> Parsed | None:
    """Return what `parse` reads; add to `faults` and return None if it can't."""
    try:
        return parse(blocks_of(content))
    except ValueError as error:
        faults.append(f"{name}: {error}")
        return None


def _chain_in(blocks: list[Block]) -> list[x509.Certificate]:
    """Read a chain; the key may be in the same file."""
    blocks = [each for each in blocks if not _is_of_a_key(each)]
    if len(blocks) > MAX_CHAIN:
        raise ValueError(f"a chain has at most {MAX_CHAIN} certificates")
    chain = _certificates(iter(blocks))
    if sum(len(each.public_bytes(Encoding.DER)) for each in chain) > MAX_CHAIN_BYTES:
        raise ValueError(f"a chain has at most {MAX_CHAIN_BYTES:,} bytes in DER")
    return chain


def _authorities_in(blocks: list[Block]) -> list[x509.Certificate]:
    """Read authorities; a list of revocations would be one that nobody obeys."""
    certificates = _certificates(iter(blocks))
    for at, each in enumerate(certificates, start=1):
        if not _may_be_authority(each):
            raise ValueError(f"certificate {at} isn't that of an authority")
    return certificates


def _may_be_authority(certificate: x509.Certificate) -> bool:
    """Return whether it may issue others; a root may be older than the extensions.

    gRPC itself accepts whatever a certificate in this file has signed, a client's too.
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


def _certificates(blocks: Iterator[Block]) -> list[x509.Certificate]:
    found = []
    for at, (label, pem) in enumerate(blocks, start=1):
        if label not in _CERTIFICATES:
            raise ValueError(f"block {at} is no certificate but {label}")
        try:
            found.append(x509.load_pem_x509_certificate(pem))
        except _UNREADABLE:
            raise ValueError(f"certificate {at} can't be read") from None
    if not found:
        raise ValueError("no certificate in PEM is in it")
    return found


def _key_in(blocks: list[Block]) -> PrivateKeyTypes:
    keys = [each for each in blocks if each.label.endswith("PRIVATE KEY")]
    if len(keys) != 1:
        raise ValueError(
            "it holds more than one private key"
            if keys
            else "no private key in PEM is in it"
        )
    try:
        key = load_pem_private_key(keys[0].pem, password=None)
    except TypeError:  # the library's word for it
        raise ValueError("the key needs a password; write it without one") from None
    except _UNREADABLE:
        raise ValueError("the private key can't be read") from None
    if not _is_usable(key):
        raise ValueError(
            "gRPC clients can't connect to a key of this kind; take P-256, P-384, or"
            f" RSA with {RSA_BITS[0]} to {RSA_BITS[-1]} bits"
        )
    return key


def _is_of_a_key(block: Block) -> bool:
    return block.label.endswith(("PRIVATE KEY", " PARAMETERS"))


def _is_usable(key: PrivateKeyTypes) -> bool:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.curve.name in CURVES
    return isinstance(key, rsa.RSAPrivateKey) and key.key_size in RSA_BITS


def _faults_of_pair(
    leaf: x509.Certificate, key: PrivateKeyTypes | None, now: datetime, section: str
) -> Iterator[str]:
    if key and not _is_pair(leaf, key):
        yield (
            f"{section}.cert_file and {section}.key_file: the key isn't the"
            " certificate's"
        )
    name = f"{section}.cert_file: the certificate"
    if now < leaf.not_valid_before_utc:
        yield f"{name} isn't valid before {when_text(leaf.not_valid_before_utc)}"
    if now > leaf.not_valid_after_utc:
        yield f"{name} expired on {when_text(leaf.not_valid_after_utc)}"


def _is_pair(leaf: x509.Certificate, key: PrivateKeyTypes) -> bool:
    try:
        return leaf.public_key() == key.public_key()
    except _UNREADABLE:
        return False


def _written(certificates: list[x509.Certificate]) -> bytes:
    return b"".join(each.public_bytes(Encoding.PEM) for each in certificates)


def _written_key(key: PrivateKeyTypes) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
