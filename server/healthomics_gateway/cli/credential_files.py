"""Reads and checks the files that a client authenticates and verifies with."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from healthomics_gateway.cli.gateway_options import OptionValue, flag_of
from healthomics_gateway.files import read_once
from healthomics_gateway.pem import blocks_of
from healthomics_gateway.tls.authorities import client_context

MAX_TOKEN_BYTES = 7 * 1024  # a gateway takes 8 KiB of metadata; the rest needs some
TOKEN = re.compile(rb"[!-~]+")  # visible ASCII


class TokenFile:
    """A file with a bearer token, which another program may replace."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._last = _token_in(file)

    def read(self) -> str:
        """Return the token that the file holds now, or else the last valid one."""
        with suppress(OSError, ValueError):
            if self._file.is_file():  # a pipe can be read only once
                self._last = _token_in(self._file)
        return self._last


def tls_contents(
    given: Mapping[str, OptionValue], faults: list[str]
) -> dict[str, bytes]:
    """Return the PEM of each TLS file, by option; append what is wrong to `faults`.

    gRPC doesn't check them before it connects, and doesn't say what is wrong.
    """
    contents: dict[str, bytes] = {}
    keys: dict[str, object] = {}
    for name, key_in in (
        # `ssl` accepts old certificates that `cryptography` refuses, as gRPC does.
        ("tls_ca", client_context),
        ("tls_cert", _certified_key),
        ("tls_key", _private_key),
    ):
        if name not in given:
            continue
        try:
            blocks = blocks_of(read_once(Path(given[name].text)))
            contents[name] = b"".join(each.pem for each in blocks)
            keys[name] = key_in(contents[name])
        except (OSError, ValueError) as error:
            faults.append(_fault(given[name], error))
    for one, other in (("tls_cert", "tls_key"), ("tls_key", "tls_cert")):
        if one in given and other not in given:
            faults.append(f"{given[one].source}: set {flag_of(other)} too")
    if {"tls_cert", "tls_key"} <= keys.keys() and keys["tls_cert"] != keys["tls_key"]:
        cert, key = given["tls_cert"], given["tls_key"]
        faults.append(f"{key.source}: it isn't the key of {cert.source}'s certificate")
    return contents


def _certified_key(pem: bytes) -> object:
    """Return the public key of the first certificate; raises ValueError."""
    from cryptography import exceptions, utils, x509  # slow, and rarely needed

    # The warnings would be printed to stderr.
    warnings.filterwarnings("ignore", category=utils.CryptographyDeprecationWarning)
    try:
        certificate = x509.load_pem_x509_certificates(pem)[0]
        key = certificate.public_key()
    except (exceptions.UnsupportedAlgorithm, ValueError):
        raise ValueError("it contains no certificate in PEM") from None
    if datetime.now(UTC) > certificate.not_valid_after_utc:
        until = f"{certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}"
        raise ValueError(f"the certificate expired on {until}; use a valid one")
    return key


def _private_key(pem: bytes) -> object:
    """Return the public key of the private key in `pem`; raises ValueError."""
    from cryptography import exceptions  # slow, and rarely needed
    from cryptography.hazmat.primitives import serialization  # as above

    try:
        return serialization.load_pem_private_key(pem, password=None).public_key()
    except TypeError:
        raise ValueError("the key is encrypted; save it without a password") from None
    except (exceptions.UnsupportedAlgorithm, ValueError):
        raise ValueError("it contains no private key in PEM") from None


def token_file(given: OptionValue | None, faults: list[str]) -> TokenFile | None:
    """Return the token file, if one is given; append what is wrong to `faults`."""
    if given is None:
        return None
    try:
        return TokenFile(Path(given.text))
    except (OSError, ValueError) as error:
        faults.append(_fault(given, error))
    return None


def _fault(given: OptionValue, error: OSError | ValueError) -> str:
    return f"{given.source}: {getattr(error, 'strerror', error)}"


def _token_in(file: Path) -> str:
    raw = read_once(file).strip()
    if not raw:
        raise ValueError("it is empty")
    if len(raw) > MAX_TOKEN_BYTES:
        raise ValueError("it is longer than 7 KiB")
    if not TOKEN.fullmatch(raw):
        raise ValueError("it must be one word of printable ASCII")
    return raw.decode("ascii")
