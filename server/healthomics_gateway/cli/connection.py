"""How the command line reaches a gateway: where, in plaintext or over TLS, as whom."""

from __future__ import annotations

import re
import ssl
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import grpc

from healthomics_gateway.faults import FaultsError
from healthomics_gateway.files import read_once
from healthomics_gateway.pem import blocks_of

PREFIX = "HEALTHOMICS_GATEWAY_"
OF_TLS = ("tls_ca", "tls_cert", "tls_key", "server_name")  # each implies TLS
NAMES = ("address", "tls", *OF_TLS, "token_file")
MAX_TOKEN_BYTES = 7 * 1024  # a gateway takes 8 KiB of metadata; the rest needs some
TOKEN = re.compile(rb"[!-~]+")  # visible ASCII


UNIX = "unix:"


class RouteError(FaultsError):
    """A gateway can't be called as it was asked for; `args` are the faults."""


def find_route(
    flags: Mapping[str, str | None],
    environ: Mapping[str, str],
    *,
    default_address: str,
) -> Route:
    """Read and check what was given, by its names; a flag comes before its variable.

    Raises RouteError with all faults, none of which tells what a file holds.
    """
    faults: list[str] = []
    given = _all_given(flags, environ, faults)
    is_tls = _is_tls(given, faults)
    contents = _contents(given, faults)
    address = given["address"].text if "address" in given else default_address
    if "token_file" in given and not (is_tls or is_near(address)):
        faults.append(
            f"{given['token_file'].name}: no token is sent in plaintext to {address};"
            " add --tls, or --tls-ca with the gateway's authorities"
        )
    if is_tls and address.startswith(UNIX):
        faults.append(f"{address}: a Unix socket has no TLS")
    token = _token_file(given.get("token_file"), faults)
    if faults:
        raise RouteError(*faults)
    return Route(
        address=address,
        credentials=grpc.ssl_channel_credentials(
            *(contents.get(name) for name in ("tls_ca", "tls_key", "tls_cert"))
        )
        if is_tls
        else None,
        server_name=given["server_name"].text if "server_name" in given else None,
        token=token,
    )


@dataclass(frozen=True, slots=True)
class Route:
    """The way to a gateway."""

    address: str
    credentials: grpc.ChannelCredentials | None  # without them it is plaintext
    server_name: str | None  # where it isn't the address's own
    token: TokenFile | None

    @property
    def over(self) -> Literal["plaintext", "tls", "unix"]:
        """Return what the calls are made over."""
        if self.address.startswith(UNIX):
            return "unix"
        return "plaintext" if self.credentials is None else "tls"

    def open(self, options: Sequence[tuple[str, Any]] = ()) -> grpc.Channel:
        """Make a channel, with `options` of gRPC's."""
        chosen = [*options]
        target = self.address
        if target.startswith(UNIX):
            target = UNIX + quote(target.removeprefix(UNIX))
        if is_near(self.address):
            # A proxy can't reach what listens on this machine.
            chosen.append(("grpc.enable_http_proxy", 0))
        if self.server_name is not None:
            chosen.append(("grpc.ssl_target_name_override", self.server_name))
        if self.credentials is None:
            return grpc.insecure_channel(target, chosen)
        return grpc.secure_channel(target, self.credentials, chosen)

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Give what the next call says of its caller."""
        if self.token is None:
            return ()
        # gRPC's own credentials of a call would refuse a plaintext channel.
        return (("authorization", f"Bearer {self.token.read()}"),)


class TokenFile:
    """A token on disk, where others renew it."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._last = _token_in(file)

    def read(self) -> str:
        """Give the token as it is by now, or the last that was good."""
        with suppress(OSError, ValueError):
            if self._file.is_file():  # a pipe has given what it had
                self._last = _token_in(self._file)
        return self._last


def is_near(address: str) -> bool:
    """Tell whether it can be nowhere but on this machine, whatever names resolve to."""
    if address.startswith(UNIX):
        return True
    host, _, port = address.rpartition(":")
    if not (port.isascii() and port.isdecimal()):
        return False
    try:
        return host in ("localhost", "[::1]") or IPv4Address(host).is_loopback
    except AddressValueError:
        return False


@dataclass(frozen=True, slots=True)
class Given:
    """What was given, and the flag or variable that gave it."""

    name: str
    text: str


def _all_given(
    flags: Mapping[str, str | None], environ: Mapping[str, str], faults: list[str]
) -> dict[str, Given]:
    given = {}
    for name in NAMES:
        flag, variable = _flag(name), PREFIX + name.upper()
        text = flags.get(name)
        if text:
            given[name] = Given(flag, text)
        elif text is not None:
            faults.append(f"{flag}: it is empty")
        elif environ.get(variable):
            given[name] = Given(variable, environ[variable])
        elif variable in environ:
            # It may have been meant to turn TLS on.
            faults.append(f"{variable}: it is empty; unset it")
    unprintable = [
        given.pop(name).name
        for name in ("address", "server_name")
        if name in given and not given[name].text.isprintable()
    ]
    faults += [f"{name}: write printable characters" for name in unprintable]
    return given


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _is_tls(given: Mapping[str, Given], faults: list[str]) -> bool:
    told = given.get("tls", Given("", "false"))
    word = told.text.lower()
    if word not in ("true", "false"):
        faults.append(f"{told.name}: write true or false")
    return word != "false" or not given.keys().isdisjoint(OF_TLS)


def _contents(given: Mapping[str, Given], faults: list[str]) -> dict[str, bytes]:
    """Read the files of TLS; gRPC itself would fail late and say little."""
    contents: dict[str, bytes] = {}
    keys: dict[str, object] = {}
    for name, key_in in (
        ("tls_ca", _check_authorities),
        ("tls_cert", _certified_key),
        ("tls_key", _private_key),
    ):
        if name not in given:
            continue
        try:
            blocks = blocks_of(read_once(Path(given[name].text)))
            contents[name] = b"".join(each.pem for each in blocks)
            keys[name] = key_in(contents[name])
        except OSError as error:
            faults.append(f"{given[name].name}: {error.strerror}")
        except ValueError as error:
            faults.append(f"{given[name].name}: {error}")
    for one, other in (("tls_cert", "tls_key"), ("tls_key", "tls_cert")):
        if one in given and other not in given:
            faults.append(f"{given[one].name}: {_flag(other)} is needed too")
    if {"tls_cert", "tls_key"} <= keys.keys() and keys["tls_cert"] != keys["tls_key"]:
        cert, key = given["tls_cert"], given["tls_key"]
        faults.append(f"{key.name}: it isn't the key of {cert.name}'s certificate")
    return contents


def _check_authorities(pem: bytes) -> None:
    """See to it that there is one; `ssl` is as lenient with old ones as gRPC is."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(
            cadata=pem.decode("ascii", "ignore")  # what isn't ASCII is a comment
        )
    except (ssl.SSLError, ValueError):
        raise ValueError("certificates as PEM are needed") from None


def _certified_key(pem: bytes) -> object:
    """Give the public key of the first certificate."""
    from cryptography import exceptions, utils, x509  # slow, and few need it

    # They would go to stderr.
    warnings.filterwarnings("ignore", category=utils.CryptographyDeprecationWarning)
    try:
        certificate = x509.load_pem_x509_certificates(pem)[0]
        key = certificate.public_key()
    except (exceptions.UnsupportedAlgorithm, ValueError):
        raise ValueError("a certificate as PEM is needed") from None
    if datetime.now(UTC) > certificate.not_valid_after_utc:
        until = f"{certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}"
        raise ValueError(f"the certificate expired on {until}")
    return key


def _private_key(pem: bytes) -> object:
    """Give the public key that belongs to it."""
    from cryptography import exceptions  # slow, and few need it
    from cryptography.hazmat.primitives import serialization  # as above

    try:
        return serialization.load_pem_private_key(pem, password=None).public_key()
    except TypeError:
        raise ValueError("a key without a passphrase is needed") from None
    except (exceptions.UnsupportedAlgorithm, ValueError):
        raise ValueError("a private key as PEM is needed") from None


def _token_file(given: Given | None, faults: list[str]) -> TokenFile | None:
    if given is None:
        return None
    try:
        return TokenFile(Path(given.text))
    except OSError as error:
        faults.append(f"{given.name}: {error.strerror}")
    except ValueError as error:
        faults.append(f"{given.name}: {error}")
    return None


def _token_in(file: Path) -> str:
    raw = read_once(file).strip()
    if not raw:
        raise ValueError("it is empty")
    if len(raw) > MAX_TOKEN_BYTES:
        raise ValueError("a token of at most 7 KiB is needed")
    if not TOKEN.fullmatch(raw):
        raise ValueError("one word of visible ASCII is needed")
    return raw.decode("ascii")
