"""An OIDC issuer: keys of each type, signed tokens, and a server of its keys."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Self

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from jwt.utils import base64url_encode

from testkit.builders import http
from testkit.connections import ConnectionServer

ISSUER = "https://issuer.test"
AUDIENCE = "gateway"
IDENTITY = "alice"
NOW = 1_800_000_000.0
ABSENT: Any = object()  # a claim or member that is left out
KIND_OF = {  # the key type of each algorithm
    "RS256": "RSA",
    "RS384": "RSA",
    "RS512": "RSA",
    "PS256": "RSA",
    "PS384": "RSA",
    "PS512": "RSA",
    "ES256": "P-256",
    "ES384": "P-384",
    "ES512": "P-521",
    "EdDSA": "Ed25519",
}
_ALGORITHM_OF = {kind: alg for alg, kind in reversed(KIND_OF.items())} | {
    "RSA-1024": "RS256",
    "secp256k1": "ES256K",
    "Ed448": "EdDSA",
}
_MAKERS: dict[str, Callable[[], Any]] = {
    "RSA": lambda: rsa.generate_private_key(65_537, 2048),
    "RSA-1024": lambda: rsa.generate_private_key(65_537, 1024),  # noqa: S505  # too weak, and a test shows that it is refused
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "secp256k1": lambda: ec.generate_private_key(ec.SECP256K1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
    "Ed448": ed448.Ed448PrivateKey.generate,
}


@cache
def private_key(kind: str, name: str = "") -> Any:
    """Create a key of a type, once; further keys of the type have other names."""
    assert name is not None
    return _MAKERS[kind]()


@dataclass(frozen=True)
class Signer:
    """A key of an issuer."""

    kid: str | None
    kind: str = "RSA"
    name: str = ""  # of the key, if there are several of a type

    @property
    def private(self) -> Any:
        """Return the private key."""
        return private_key(self.kind, self.name)

    def jwk(self, **changes: Any) -> dict[str, Any]:
        """Return the public key as a JWK; `changes` are members, or ABSENT."""
        public = self.private.public_key()
        algorithm = jwt.get_algorithm_by_name(_ALGORITHM_OF[self.kind])
        written: dict[str, Any] = algorithm.to_jwk(public, as_dict=True)
        written.pop("key_ops", None)
        named = {"kid": ABSENT if self.kid is None else self.kid, "use": "sig"}
        return _present(written | named | changes)

    def token(
        self, *, alg: str = "", header: dict[str, Any] | None = None, **claims: Any
    ) -> str:
        """Return a signed token; `claims` and members of the `header` may be ABSENT."""
        alg = alg or _ALGORITHM_OF[self.kind]
        named = {"alg": alg, "typ": "JWT", "kid": self.kid or ABSENT}
        return compact(
            _present(named | (header or {})),
            _present(right_claims() | claims),
            sign=lambda text: self.signature(text, alg),
        )

    def signature(self, text: bytes, alg: str) -> bytes:
        """Return the signature of a text."""
        algorithm = jwt.get_algorithm_by_name(alg)
        return algorithm.sign(text, self.private)


def right_claims() -> dict[str, Any]:
    """Return claims that a gateway accepts at NOW."""
    return {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": IDENTITY,
        "iat": NOW - 10,
        "exp": NOW + 300,
    }


def compact(header: Any, claims: Any, *, sign: Callable[[bytes], bytes]) -> str:
    """Return any token; parts that aren't bytes are encoded as JSON."""
    text = b".".join(base64url_encode(_written(part)) for part in (header, claims))
    return (text + b"." + base64url_encode(sign(text))).decode()


def jwks(*keys: Signer | dict[str, Any]) -> bytes:
    """Return a JWK set."""
    written = [key.jwk() if isinstance(key, Signer) else key for key in keys]
    return json.dumps({"keys": written}).encode()


def _present(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not ABSENT}


def _written(part: Any) -> bytes:
    return part if isinstance(part, bytes) else json.dumps(part).encode()


class KeyServer:
    """Serves a JWK set over HTTP; it counts requests, and may stall or fail."""

    def __init__(
        self, *keys: Signer | dict[str, Any], tls: ssl.SSLContext | None = None
    ) -> None:
        """Serve `keys`, over TLS if `tls` has a certificate."""
        self.asked = 0
        self.heads: list[bytes] = []  # of the requests
        self.url = ""
        self._server = ConnectionServer(self._talk, tls=tls)
        self._flowing = asyncio.Event()
        self.publish(*keys)
        self.flow()

    def publish(self, *keys: Signer | dict[str, Any]) -> None:
        """Answer with a set of these keys from now on."""
        self.answer(http(jwks(*keys), keep=False))

    def answer(self, answer: bytes) -> None:
        """Answer with these bytes from now on, then close the connection."""
        self._answer = answer

    def stall(self) -> None:
        """Stop answering."""
        self._flowing.clear()

    def flow(self) -> None:
        """Answer all requests that wait."""
        self._flowing.set()

    async def __aenter__(self) -> Self:
        """Listen on a free port."""
        await self._server.listen()
        self.url = f"{self._server.url}/jwks.json"
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Close every connection."""
        await self._server.stop()

    async def _talk(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.heads.append(await reader.readuntil(b"\r\n\r\n"))
        self.asked += 1
        await self._flowing.wait()
        writer.write(self._answer)
        await writer.drain()
