"""Verifies callers' tokens: signature, issuer, audience, times and identity.

Tokens are JWTs (RFC 7519), verified as RFC 8725 advises. They are secrets: no error,
log line or cache contains one.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any

import jwt
import orjson
import structlog
from cachetools import LRUCache
from jwt.utils import base64url_decode
from structlog.contextvars import get_contextvars

from healthomics_gateway.auth.jwks import KINDS, SVID_USE, Key
from healthomics_gateway.auth.keyring import Keyring
from healthomics_gateway.auth.policy import ANONYMOUS, Credential
from healthomics_gateway.auth.spiffe import trust_domain_of
from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Reason

ALGORITHMS = tuple(alg for kind in KINDS for alg in kind.algorithms)
MAX_TOKEN_BYTES = 8192
MAX_IDENTITY = 256  # characters
MAX_TIME = 253_402_300_799  # seconds since 1970: the end of the year 9999
MAX_CACHED = 10_000  # tokens
LEEWAY_SECONDS = 30.0  # that the issuer's clock may differ from the gateway's

_BEARER = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] ([A-Za-z0-9._~+/-]+=*)")  # RFC 6750
# Possessive quantifiers, so that matching takes linear time.
_COMPACT = re.compile(r"([A-Za-z0-9_-]++)\.[A-Za-z0-9_-]++\.[A-Za-z0-9_-]++")

# These claims are checked here: PyJWT accepts text and booleans as times, has no clock
# that can be passed in, and reads the audience from one claim only.
_JWT_OPTIONS: Any = {
    **dict.fromkeys(
        ("verify_aud", "verify_iss", "verify_exp", "verify_iat", "verify_nbf"), False
    ),
    "enforce_minimum_key_length": True,
}

_log = structlog.get_logger("tokens")


def bearer(metadata: Iterable[tuple[str, str | bytes]]) -> str | None:
    """Return the token in a call's metadata, None if there is none.

    Raises TOKEN_INVALID.
    """
    values = [value for name, value in metadata if name == "authorization"]
    if not values:
        return None
    only = values[0] if len(values) == 1 else None
    written = _BEARER.fullmatch(only) if isinstance(only, str) else None
    if not written:
        raise token_refused("shape of the metadata")
    return written[1]


@dataclass(frozen=True, slots=True)
class _Proof:
    """The credential that a token proved, and the key that verified it."""

    credential: Credential
    key: Key


class Tokens:
    """Verifies tokens, and caches the results until the tokens expire."""

    def __init__(
        self,
        keys: Keyring,
        *,
        issuer: str,
        audiences: frozenset[str],
        algorithms: frozenset[str],
        identity_claim: str = "sub",
        audience_claim: str = "aud",
        leeway_seconds: float = LEEWAY_SECONDS,
        now: Callable[[], float] = time.time,
        max_cached: int = MAX_CACHED,
    ) -> None:
        """Accept tokens of `issuer` for any of `audiences`.

        `algorithms` is a subset of ALGORITHMS. `identity_claim` is the claim with the
        caller's identity, `audience_claim` the one with the audience. The issuer's
        clock may differ by `leeway_seconds`.

        If `issuer` is a SPIFFE trust domain, such as `spiffe://example.org`, tokens
        without `iss` are accepted too, for SPIFFE IDs of that domain and signed with a
        key of use `jwt-svid`: SPIFFE's tokens need not name an issuer.
        """
        if not algorithms <= set(ALGORITHMS):
            raise ValueError("only asymmetric algorithms can be allowed")
        self._keys = keys
        self._issuer = issuer
        self._audiences = audiences
        self._algorithms = algorithms
        self._identity_claim = identity_claim
        self._audience_claim = audience_claim
        self._leeway_seconds = leeway_seconds
        self._now = now
        self._proofs: LRUCache[bytes, _Proof] = LRUCache(max_cached)
        self._jwt = jwt.PyJWT(_JWT_OPTIONS)

    async def credential_of(self, token: str, host: str = "") -> Credential:
        """Return the caller's identity, and until when the token proves it.

        `host` is the caller's; the calls of one host that wait for keys are limited.

        Raises TOKEN_INVALID, TOKEN_EXPIRED, or AUTH_BACKEND_UNAVAILABLE.
        """
        if len(token) > MAX_TOKEN_BYTES or not token.isascii():
            raise token_refused("size and characters")
        digest = sha256(token.encode()).digest()
        proof = self._proofs.get(digest)
        if proof is None or not self._keys.holds(proof.key):
            proof = await self._verified(token, host)
            if self._now() < proof.credential.until:
                self._proofs[digest] = proof
        if self._now() >= proof.credential.until:
            self._proofs.pop(digest, None)
            raise token_refused("exp", Reason.TOKEN_EXPIRED)
        return proof.credential

    async def _verified(self, token: str, host: str) -> _Proof:
        """Check everything but expiry; the cheapest checks come first."""
        header = _header_of(token)
        kid, alg = header.get("kid"), header.get("alg")
        if not isinstance(alg, str) or alg not in self._algorithms:
            raise token_refused("algorithm")
        # No extension (`crit`) is supported. Headers that locate keys are ignored.
        if not isinstance(kid, str | None) or "crit" in header:
            raise token_refused("header")
        key = await self._keys.key(kid, alg, host=host)
        if key is None:
            raise token_refused("key")
        claims = self._signed_claims(token, key, alg)
        if not self._is_issued_here(claims, key):
            raise token_refused("issuer")
        if not self._is_for_us(claims.get(self._audience_claim)):
            raise token_refused("audience")
        latest = self._now() + self._leeway_seconds
        for name in ("nbf", "iat"):
            if _time(claims, name, 0) > latest:
                raise token_refused(name)
        credential = Credential(
            _identity(claims.get(self._identity_claim)),
            until=_time(claims, "exp") + self._leeway_seconds,
            holds=partial(self._keys.holds, key),
        )
        return _Proof(credential, key)

    def _is_issued_here(self, claims: dict[str, Any], key: Key) -> bool:
        if "iss" in claims or key.use != SVID_USE:
            return bool(claims.get("iss") == self._issuer)
        subject = claims.get("sub")
        domain = trust_domain_of(subject) if isinstance(subject, str) else None
        return domain is not None and domain == self._issuer

    def _is_for_us(self, claim: Any) -> bool:
        audiences = [claim] if isinstance(claim, str) else claim
        return (
            isinstance(audiences, list)
            and all(isinstance(each, str) for each in audiences)
            and not self._audiences.isdisjoint(audiences)
        )

    def _signed_claims(self, token: str, key: Key, alg: str) -> dict[str, Any]:
        # The exceptions may contain parts of the token, so none is passed on.
        with contextlib.suppress(Exception):  # a hostile token may raise any
            return self._jwt.decode(
                token,
                key.public,
                algorithms=[alg],  # one that is allowed and fits the key
            )
        raise token_refused("signature and JSON")


def _header_of(token: str) -> dict[str, Any]:
    shape = _COMPACT.fullmatch(token)
    header = None
    if shape:
        with contextlib.suppress(ValueError):
            header = orjson.loads(base64url_decode(shape[1]))
    if not isinstance(header, dict):
        raise token_refused("shape")
    return header


def _time(claims: dict[str, Any], name: str, default: float | None = None) -> float:
    """Return a time in seconds since 1970. Raises TOKEN_INVALID."""
    value = claims.get(name, default)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise token_refused(name)
    if not abs(value) <= MAX_TIME:  # `not <=` is true for NaN too
        raise token_refused(name)
    return value


def _identity(claim: Any) -> str:
    if (
        not isinstance(claim, str)
        or not 0 < len(claim) <= MAX_IDENTITY
        or not claim.isprintable()
        or claim == ANONYMOUS
    ):
        raise token_refused("identity")
    return claim


def token_refused(check: str, reason: Reason = Reason.TOKEN_INVALID) -> GatewayError:
    """Log the check that failed in a call, and return an error that doesn't name it."""
    request_id = get_contextvars().get("request_id")  # of `chain`
    _log.info("token_refused", check=check, request_id=request_id)
    return GatewayError(reason)
