"""Loads the server's certificate, its key and the client authorities from files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from healthomics_gateway.configuration_error import ConfigurationError
from healthomics_gateway.files import FileError, read_regular
from healthomics_gateway.tls.certificates import (
    certificates_pem,
    is_pair,
    key_pem,
    parse_authorities,
    parse_chain,
    parse_key,
)

# A certificate that ends within this time should have been renewed.
RENEWAL_DUE = timedelta(days=14)

ClientAuth: TypeAlias = Literal["none", "required"]
Parsed = TypeVar("Parsed")


class TlsFilesError(ConfigurationError):
    """The certificate or key can't be used; `args` are the faults, a line each."""


class Contents(NamedTuple):
    """The contents of the files."""

    chain: bytes
    key: bytes
    client_ca: bytes


@dataclass(frozen=True, slots=True)
class Certified:
    """A certificate and key that match and were valid when they were loaded."""

    read: Contents  # as the files are
    served: Contents  # as gRPC gets it, in PEM
    not_after: datetime
    fingerprint: str  # SHA-256 of the server's certificate


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """The paths of a certificate, its key and the client authorities, all in PEM."""

    cert_file: Path
    key_file: Path
    client_ca_file: Path | None = None  # set if clients need a certificate
    section: str = field(default="tls", compare=False)  # of the settings, for faults

    def load(self, now: datetime) -> Certified:
        """Read and check all files. Raises TlsFilesError with all faults."""
        contents = self.read()
        faults: list[str] = []
        chain = _parsed(
            parse_chain, contents.chain, f"{self.section}.cert_file", faults
        )
        key = _parsed(parse_key, contents.key, f"{self.section}.key_file", faults)
        clients: list[x509.Certificate] | None = []
        if self.client_ca_file:
            name = "tls.client_ca_file"
            clients = _parsed(parse_authorities, contents.client_ca, name, faults)
        if chain:
            faults += _faults_of_pair(chain[0], key, now, self.section)
        if faults or not (chain and key) or clients is None:
            raise TlsFilesError(*faults)
        leaf = chain[0]
        return Certified(
            contents,
            Contents(certificates_pem(chain), key_pem(key), certificates_pem(clients)),
            leaf.not_valid_after_utc,
            leaf.fingerprint(hashes.SHA256()).hex(),
        )

    def read(self) -> Contents:
        """Read all files. Raises TlsFilesError with a fault for each unreadable one."""
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
    """Return a time as faults and the log show it."""
    return f"{when:%Y-%m-%dT%H:%M:%SZ}"


def _parsed(
    parse: Callable[[bytes], Parsed], content: bytes, name: str, faults: list[str]
) -> Parsed | None:
    """Return what `parse` returns, or append its error to `faults`."""
    try:
        return parse(content)
    except ValueError as error:
        faults.append(f"{name}: {error}")
        return None


def _faults_of_pair(
    leaf: x509.Certificate, key: PrivateKeyTypes | None, now: datetime, section: str
) -> Iterator[str]:
    if key and not is_pair(leaf, key):
        yield (
            f"{section}.cert_file and {section}.key_file: the key isn't the"
            " certificate's"
        )
    name = f"{section}.cert_file: the certificate"
    if now < leaf.not_valid_before_utc:
        yield f"{name} isn't valid before {when_text(leaf.not_valid_before_utc)}"
    if now > leaf.not_valid_after_utc:
        yield f"{name} expired on {when_text(leaf.not_valid_after_utc)}"
