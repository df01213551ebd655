"""What the files of the server's certificate hold, and whether TLS can be served."""

from __future__ import annotations

import re
import ssl
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    load_pem_private_key,
)

ClientAuth: TypeAlias = Literal["none", "optional", "required"]

CURVES = ("secp256r1", "secp384r1", "secp521r1")  # that gRPC can sign with
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"  # of TLS 1.2; HTTP/2 allows no weaker ones
VERIFYING = {
    "none": ssl.CERT_NONE,
    "optional": ssl.CERT_OPTIONAL,
    "required": ssl.CERT_REQUIRED,
}

_PAIR = "tls.cert_file and tls.key_file"
_ENDED = re.compile(rb"-----END [A-Z0-9 ]+-----\s*\Z")
_UNREADABLE = (ValueError, UnsupportedAlgorithm, x509.InvalidVersion)


class TlsFilesError(Exception):
    """The files can't be served from; `args` are the faults, a sentence each."""


class Contents(NamedTuple):
    """What the files hold, PEM."""

    chain: bytes
    key: bytes
    client_ca: bytes


@dataclass(frozen=True, slots=True)
class Certified:
    """What TLS is served with; it fits together and was valid when it was loaded."""

    contents: Contents
    context: ssl.SSLContext  # of a server that speaks HTTP/2
    not_after: datetime
    fingerprint: str  # SHA-256 of the server's own certificate


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """Where the certificate is, its key and the authorities of clients, all PEM."""

    cert_file: Path
    key_file: Path
    client_ca_file: Path | None = None  # read where clients are asked
    client_auth: ClientAuth = "none"

    def load(self, now: datetime) -> Certified:
        """Read and check all of them; raise TlsFilesError with all faults."""
        contents = self.read()
        if faults := tuple(_faults(contents, now, self.client_auth)):
            raise TlsFilesError(*faults)
        leaf, *_ = _certificates(contents.chain)
        context = _context(self, contents)
        # OpenSSL reads them by their paths; by now these may lead elsewhere.
        if self.read() != contents:
            raise TlsFilesError(f"{_PAIR}: they changed while they were read")
        fingerprint = leaf.fingerprint(hashes.SHA256()).hex()
        return Certified(contents, context, leaf.not_valid_after_utc, fingerprint)

    def read(self) -> Contents:
        """Read them as they are; raise TlsFilesError for those that can't be read."""
        files = {"tls.cert_file": self.cert_file, "tls.key_file": self.key_file}
        if self.client_auth != "none" and self.client_ca_file:
            files["tls.client_ca_file"] = self.client_ca_file
        read, faults = [], []
        for name, file in files.items():
            try:
                read.append(file.read_bytes())
            except (OSError, ValueError):  # ValueError where the path holds a NUL
                # The path isn't told: it may be a key that was pasted instead.
                faults.append(f"{name}: no file of this path can be read")
        if faults:
            raise TlsFilesError(*faults)
        chain, key, client_ca = (*read, b"")[:3]
        return Contents(chain, key, client_ca)


def _faults(
    contents: Contents, now: datetime, client_auth: ClientAuth
) -> Iterator[str]:
    try:
        leaf, *_ = _certificates(contents.chain)
        key = load_pem_private_key(contents.key, password=None)
        is_pair = leaf.public_key() == key.public_key()
    except TypeError:  # its word for it
        yield "tls.key_file: the key needs a password; write it without one"
    except _UNREADABLE:
        yield f"{_PAIR}: not a certificate and its key, in PEM"
    else:
        if not is_pair:
            yield f"{_PAIR}: the key isn't the certificate's"
        elif not _can_sign(key):
            yield "tls.key_file: no TLS with a key of this kind; take P-256 or RSA"
        yield from _faults_of_dates(leaf, now)
        if _is_cut(contents.chain):
            yield "tls.cert_file: it doesn't end where a certificate ends"
    if client_auth != "none":
        yield from _faults_of_authorities(contents.client_ca)


def _faults_of_dates(leaf: x509.Certificate, now: datetime) -> Iterator[str]:
    if now < leaf.not_valid_before_utc:
        since = when_text(leaf.not_valid_before_utc)
        yield f"tls.cert_file: the certificate isn't valid before {since}"
    if now > leaf.not_valid_after_utc:
        until = when_text(leaf.not_valid_after_utc)
        yield f"tls.cert_file: the certificate expired on {until}"


def _faults_of_authorities(client_ca: bytes) -> Iterator[str]:
    try:
        _certificates(client_ca)
    except _UNREADABLE:
        yield "tls.client_ca_file: no certificates can be read from it"
    else:
        if _is_cut(client_ca):
            yield "tls.client_ca_file: it doesn't end where a certificate ends"


def when_text(when: datetime) -> str:
    """Write a time as faults and the log do."""
    return f"{when:%Y-%m-%dT%H:%M:%SZ}"


def _certificates(pem: bytes) -> list[x509.Certificate]:
    """Read all of them, at least one; raise one of _UNREADABLE."""
    with warnings.catch_warnings():
        # Of certificates that it will refuse one day: the log has no use for them.
        warnings.simplefilter("ignore")
        return x509.load_pem_x509_certificates(pem)


def _is_cut(pem: bytes) -> bool:
    """Tell whether a file is half-written: its readers ignore what is cut."""
    return not _ENDED.search(pem)


def _can_sign(key: object) -> bool:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.curve.name in CURVES
    return isinstance(key, rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey)


def _context(files: TlsFiles, contents: Contents) -> ssl.SSLContext:
    """Make what a server of HTTP/2 needs; raise TlsFilesError where OpenSSL can't."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols(["h2"])
    # No tickets, as a session that is resumed isn't checked again.
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
    context.num_tickets = 0
    try:
        # Without a password, a key that needs one would ask for it at the terminal.
        context.load_cert_chain(files.cert_file, files.key_file, password="")
        for authority in (
            _certificates(contents.client_ca) if contents.client_ca else ()
        ):
            context.load_verify_locations(cadata=authority.public_bytes(Encoding.DER))
    except OSError as error:  # an SSLError is one
        why = getattr(error, "reason", None) or "they can't be read"
        raise TlsFilesError(f"{_PAIR}: OpenSSL refuses them, {why}") from None
    # As gRPC does: an authority may itself stand below another.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_mode = VERIFYING[files.client_auth]
    return context
