"""Who a caller's token says it is, and whether issuer, audience and time are right.

Tokens are JWTs (RFC 7519), read as RFC 8725 advises. They are secrets: none gets into
an error, the log or the memory.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import jwt
import orjson
from cachetools import LRUCache
from jwt.utils import base64url_decode

from healthomics_gateway.access import ANONYMOUS
from healthomics_gateway.errors import GatewayError, Reason
from healthomics_gateway.jwks import KINDS, Key
from healthomics_gateway.keys import Keyring

ALGORITHMS = tuple(alg for kind in KINDS for alg in kind.algorithms)
MAX_TOKEN_BYTES = 8192
MAX_IDENTITY = 256  # characters
MAX_TIME = 253_402_300_799  # seconds since 1970: the end of the year 9999
MAX_REMEMBERED = 10_000  # tokens
LEEWAY_SECONDS = 5.0  # that the issuer's clock may differ from ours

_BEARER = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] ([A-Za-z0-9._~+/-]+=*)")  # RFC 6750
# Possessive, so that nothing is tried twice.
_COMPACT = re.compile(r"([A-Za-z0-9_-]++)\.[A-Za-z0-9_-]++\.[A-Za-z0-9_-]++")


def bearer(metadata: Iterable[tuple[str, str | bytes]]) -> str | None:
    """Give the token of a call's metadata, None without one, or raise TOKEN_INVALID."""
    values = [value for name, value in metadata if name == "authorization"]
    if not values:
        return None
    only = values[0] if len(values) == 1 else None
    written = _BEARER.fullmatch(only) if isinstance(only, str) else None
    if not written:
        raise _invalid()
    return written[1]


@dataclass(frozen=True, slots=True)
class _Proof:
    """What a token has proven."""

    identity: str
    expires_at: float  # seconds since 1970
    key: Key


class Tokens:
    """Verifies tokens, and remembers those it has verified until they expire."""

    def __init__(
        self,
        keys: Keyring,
        *,
        issuer: str,
        audiences: frozenset[str],
        algorithms: frozenset[str],
        identity_claim: str = "sub",
        now: Callable[[], float] = time.time,
        max_remembered: int = MAX_REMEMBERED,
    ) -> None:
        """Accept tokens of `issuer` for any of `audiences`.

        `algorithms` are some of ALGORITHMS; `identity_claim` names the caller.
        """
        if not algorithms <= set(ALGORITHMS):
            raise ValueError("only asymmetric algorithms can be allowed")
        self._keys = keys
        self._issuer = issuer
        self._audiences = audiences
        self._algorithms = algorithms
        self._identity_claim = identity_claim
        self._now = now
        self._proofs: LRUCache[bytes, _Proof] = LRUCache(max_remembered)
        self._jwt = jwt.PyJWT(
            {
                # Ours, as PyJWT takes text and booleans for times, and has no clock.
                "verify_exp": False,
                "verify_iat": False,
                "verify_nbf": False,
                "enforce_minimum_key_length": True,
            }
        )

    async def identity_of(self, token: str) -> str:
        """Give the caller's identity.

        Raises TOKEN_INVALID, TOKEN_EXPIRED, or AUTH_BACKEND_UNAVAILABLE.
        """
        if len(token) > MAX_TOKEN_BYTES or not token.isascii():
            raise _invalid()
        digest = sha256(token.encode()).digest()
        proof = self._proofs.get(digest)
        if proof is None or not self._keys.holds(proof.key):
            proof = await self._verified(token)
            if self._now() < proof.expires_at:
                self._proofs[digest] = proof
        if self._now() >= proof.expires_at:
            self._proofs.pop(digest, None)
            raise GatewayError(Reason.TOKEN_EXPIRED)
        return proof.identity

    async def _verified(self, token: str) -> _Proof:
        """Check all but whether it has expired; what costs least comes first."""
        header = _header_of(token)
        kid, alg = header.get("kid"), header.get("alg")
        if not isinstance(alg, str) or alg not in self._algorithms:
            raise _invalid()
        # No extension is understood, and where keys are isn't for a token to say.
        if not isinstance(kid, str | None) or "crit" in header:
            raise _invalid()
        key = await self._keys.key(kid, alg)
        if key is None:
            raise _invalid()
        claims = self._signed_claims(token, key, alg)
        latest = self._now() + LEEWAY_SECONDS
        if max(_time(claims, "nbf", 0), _time(claims, "iat", 0)) > latest:
            raise _invalid()
        return _Proof(
            identity=_identity(claims.get(self._identity_claim)),
            expires_at=_time(claims, "exp") + LEEWAY_SECONDS,
            key=key,
        )

    def _signed_claims(self, token: str, key: Key, alg: str) -> dict[str, Any]:
        # What it raises may hold parts of the token, so it goes no further.
        with contextlib.suppress(Exception):  # hostile tokens make it raise many
            return self._jwt.decode(
                token,
                key.public,
                algorithms=[alg],  # one of ours, which fits the key
                audience=self._audiences,
                issuer=self._issuer,
            )
        raise _invalid()


def _header_of(token: str) -> dict[str, Any]:
    shape = _COMPACT.fullmatch(token)
    header = None
    if shape:
        with contextlib.suppress(ValueError):
            header = orjson.loads(base64url_decode(shape[1]))
    if not isinstance(header, dict):
        raise _invalid()
    return header


def _time(claims: dict[str, Any], name: str, default: float | None = None) -> float:
    """Give a time in seconds since 1970, or raise TOKEN_INVALID."""
    value = claims.get(name, default)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _invalid()
    if not abs(value) <= MAX_TIME:  # NaN, which isn't more either
        raise _invalid()
    return value


def _identity(claim: Any) -> str:
    if (
        not isinstance(claim, str)
        or not 0 < len(claim) <= MAX_IDENTITY
        or not claim.isprintable()
        or claim == ANONYMOUS
    ):
        raise _invalid()
    return claim


def _invalid() -> GatewayError:
    return GatewayError(Reason.TOKEN_INVALID)
