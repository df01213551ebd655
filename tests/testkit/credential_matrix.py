"""Certificates and tokens, valid and invalid, and the error that each should cause."""

from __future__ import annotations

import hmac
import time
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from jwt.utils import base64url_encode

from testkit.authorities import DAY, HOST, root_of, write
from testkit.builders import Refusal, assert_well_made
from testkit.callers import LIMS, SIGNER, bearing, token
from testkit.issuer import AUDIENCE, ISSUER, Signer, compact, jwks
from testkit.svid import HOUR, Authority, Pair

Metadata: TypeAlias = tuple[tuple[str, str], ...]

NAMED, UNLISTED = "console.corp.test", "spiffe://corp/ns/unlisted/sa/reader"
ANONYMOUS = "anonymous"
NO_CALL = "UNAVAILABLE"  # without details: no call completed the handshake
CODES = {  # docs/guide/errors.md, the caller
    "TOKEN_MISSING": "UNAUTHENTICATED",
    "TOKEN_INVALID": "UNAUTHENTICATED",
    "TOKEN_EXPIRED": "UNAUTHENTICATED",
    "CALLER_NOT_AUTHORIZED": "PERMISSION_DENIED",
}
MINUTE_SECONDS = 60.0  # more than clocks may differ


@dataclass(frozen=True, slots=True)
class Proof:
    """The identity that a certificate or a token proves, or why it is refused."""

    identity: str = ""
    fault: str = ""  # a reason, or NO_CALL


NOTHING = Proof()
INVALID, EXPIRED = Proof(fault="TOKEN_INVALID"), Proof(fault="TOKEN_EXPIRED")
UNTRUSTED = Proof(fault=NO_CALL)


# The listeners of one gateway, in the order of their addresses: TLS that requires a
# certificate, TLS that doesn't ask for one, a Unix socket, one with an identity.
LISTENERS = ("required", "none", "socket", "socket-of-lims")


@dataclass(frozen=True, slots=True)
class Row:
    """A caller: its certificate, its token and its listener."""

    certificate: str
    token: str
    listener: str

    def __str__(self) -> str:
        """Return its name, as a request id can contain it."""
        return f"{self.certificate}.{self.token}.{self.listener}"

    def expected(self, known: Collection[str] | None) -> tuple[str, str]:
        """Return how its calls end, and its identity; rules allow only the `known`.

        If `known` is None there are no rules: every identity may call. A fault of the
        certificate is reported before a fault of the token.
        """
        certificate = NOTHING  # the other listeners don't ask for it
        if self.listener == "required":
            certificate = certificates()[self.certificate][1]
            if certificate is NOTHING:
                return NO_CALL, ""
        if self.listener == "socket-of-lims":
            certificate = Proof(LIMS)
        bearer = tokens()[self.token][1]
        fault = certificate.fault or bearer.fault
        names = {certificate.identity, bearer.identity} - {""}
        if not fault and len(names) > 1:
            fault = "TOKEN_INVALID"
        if not fault and not names and (known is None or ANONYMOUS not in known):
            fault = "TOKEN_MISSING"
        if fault:
            return _told(fault), ANONYMOUS
        (identity,) = names or {ANONYMOUS}
        is_known = known is None or identity in known
        return "OK" if is_known else _told("CALLER_NOT_AUTHORIZED"), identity


def _told(fault: str) -> str:
    return fault if fault == NO_CALL else f"{CODES[fault]} {fault}"


def rows() -> list[Row]:
    """Return each token at each listener, with each certificate if one is required."""
    shown = {"required": certificates(), "none": ("no-certificate", "spiffe")}
    return [
        Row(certificate, bearer, listener)
        for listener in LISTENERS
        for certificate in shown.get(listener, ("no-certificate",))
        for bearer in tokens()
    ]


@cache
def clients() -> Authority:
    """Return the authority that the gateway verifies callers with."""
    return Authority()


@cache
def certificates() -> Mapping[str, tuple[Pair | None, Proof]]:
    """Create every certificate, once."""
    ours, others = clients(), Authority()  # of the same name
    return {
        "no-certificate": (None, NOTHING),
        "spiffe": (ours.certify(LIMS), Proof(LIMS)),
        "dns": (ours.certify(dns=[NAMED]), Proof(NAMED)),
        "unlisted": (ours.certify(UNLISTED), Proof(UNLISTED)),
        "without-a-name": (ours.certify(), INVALID),
        "of-two": (ours.certify(LIMS, UNLISTED), INVALID),
        "of-anonymous": (ours.certify(dns=[ANONYMOUS]), INVALID),
        "of-another-ca": (others.certify(LIMS), UNTRUSTED),
        "self-signed": (self_signed(LIMS), UNTRUSTED),
        "expired": (ours.certify(LIMS, since=-2 * DAY, until=-DAY), UNTRUSTED),
        "premature": (ours.certify(LIMS, since=HOUR, until=DAY), UNTRUSTED),
    }


def self_signed(uri: str) -> Pair:
    """Create a certificate that only its own key has signed."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "self")])
    alternative = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])
    signed = (
        x509.CertificateBuilder(name, name, key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(alternative, critical=False)
        .sign(key, hashes.SHA256())
    )
    return Pair(
        signed.public_bytes(Encoding.PEM),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )


@cache
def tokens() -> Mapping[str, tuple[Metadata, Proof]]:
    """Create every token, once: its metadata, and what it proves."""
    now = time.time()
    forger = Signer(SIGNER.kid, SIGNER.kind, "forger")
    usual = {"sub": LIMS, "iat": now - 10, "exp": now + 300}
    late = {"nbf": now + MINUTE_SECONDS, "exp": now + 2 * MINUTE_SECONDS}
    bad = {
        "garbage": "jibberish-of-no-kind",
        "not-yet-valid": token(**late),
        "alg-none": compact(
            {"alg": "none", "kid": SIGNER.kid}, _claims(), sign=lambda _: b"x"
        ),
        "alg-none-unsigned": compact(
            {"alg": "none", "kid": SIGNER.kid}, _claims(), sign=lambda _: b""
        ),
        "public-key-as-secret": compact(
            {"alg": "HS256", "kid": SIGNER.kid}, _claims(), sign=_by_public_key
        ),
        "forged": forger.token(**usual),
        "key-in-its-header": forger.token(header={"jwk": forger.jwk()}, **usual),
        "other-audience": token(aud="another"),
        "other-issuer": token(iss="https://another.test"),
        "unknown-kid": Signer("second", SIGNER.kind, "second").token(**usual),
        "of-anonymous": token(ANONYMOUS),
    }
    basic = base64url_encode(b"lims:secret").decode()
    return {
        "no-token": ((), NOTHING),
        "right": (bearing(token()), Proof(LIMS)),
        "of-the-dns-name": (bearing(token(NAMED)), Proof(NAMED)),
        "unlisted": (bearing(token(UNLISTED)), Proof(UNLISTED)),
        "expired": (bearing(token(exp=now - MINUTE_SECONDS)), EXPIRED),
        "twice": (bearing(token(), token()), INVALID),
        "another-scheme": ((("authorization", f"Basic {basic}"),), INVALID),
        "scheme-alone": ((("authorization", "Bearer"),), INVALID),
        **{name: (bearing(each), INVALID) for name, each in bad.items()},
    }


def _claims() -> dict[str, Any]:
    now = time.time()
    return {"iss": ISSUER, "aud": AUDIENCE, "sub": LIMS, "exp": now + 300}


def _by_public_key(text: bytes) -> bytes:
    public = SIGNER.private.public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return hmac.digest(pem, text, sha256)


class Files:
    """The files and settings of a gateway with all the listeners, and tokens."""

    def __init__(self, folder: Path, sockets: Path) -> None:
        """Write the files; the path of `sockets` must be short."""
        self.folder = folder
        self.sockets = sockets
        self._authority = trustme.CA()
        self.renew()
        (folder / "client_ca.pem").write_bytes(clients().pem)
        (folder / "ca.pem").write_bytes(root_of(self._authority))
        (folder / "jwks.json").write_bytes(jwks(SIGNER))

    def renew(self) -> None:
        """Write a new certificate of the server."""
        write(self._authority.issue_cert(HOST), self.folder)

    def toml(self, *rules: str, top: str = "", keys: str = "") -> str:
        """Return the settings; `keys` is the line that names the issuer's keys."""
        keys = keys or f'jwks_file = "{self.folder}/jwks.json"'
        return f"""{top}
[tls]
cert_file = "{self.folder}/cert.pem"
key_file = "{self.folder}/key.pem"
client_ca_file = "{self.folder}/client_ca.pem"
client_auth = "required"
[[listeners]]
address = "{HOST}:0"
client_auth = "none"
[[listeners]]
address = "unix:{self.sockets}/a"
[[listeners]]
address = "unix:{self.sockets}/b"
identity = "{LIMS}"
[jwt]
issuer = "{ISSUER}"
audience = ["{AUDIENCE}"]
{keys}
{"".join(rules)}"""

    @asynccontextmanager
    async def channel(
        self, address: object, certificate: str, **options: Any
    ) -> AsyncIterator[grpc.aio.Channel]:
        """Open a channel with a new connection; it sends a certificate."""
        shown, _ = certificates()[certificate]
        pair = (shown.key, shown.cert) if shown else (None, None)
        own = [("grpc.use_local_subchannel_pool", 1), *options.items()]
        credentials = grpc.ssl_channel_credentials(root_of(self._authority), *pair)
        async with (
            grpc.aio.insecure_channel(str(address), own)
            if str(address).startswith("unix:")
            else grpc.aio.secure_channel(str(address), credentials, own)
        ) as channel:
            yield channel


def word(found: Any) -> str:
    """Return how a call ended: OK, or its code, and its reason if it has one."""
    if not isinstance(found, Refusal):
        return "OK"
    if not found.details:
        return str(found.code.name)
    assert_well_made(found)
    return f"{found.code.name} {found.reason}"
