"""Parses the JWK set of an issuer (RFC 7517), and leaves out unusable keys."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

MAX_BYTES = 1_048_576  # of a set
MAX_KEYS = 100  # of a set
MAX_VALUES = 32_768  # in its text; parsing holds the GIL, even in a thread
MIN_RSA_BITS = 2048
EMPTY: tuple[Any, ...] = (None, "", [])
SVID_USE = "jwt-svid"  # in SPIFFE bundles, instead of `sig`
USES = ("sig", SVID_USE)
PRIVATE = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}  # members of a private JWK


class Kind(NamedTuple):
    """A type of key, and the algorithms that it can verify (RFC 7518, RFC 8037)."""

    kty: str
    crv: str | None
    algorithms: tuple[str, ...]


# No symmetric keys: a secret in a public set isn't secret.
KINDS = (
    Kind("RSA", None, ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")),
    Kind("EC", "P-256", ("ES256",)),
    Kind("EC", "P-384", ("ES384",)),
    Kind("EC", "P-521", ("ES512",)),
    Kind("OKP", "Ed25519", ("EdDSA",)),
)


class KeySetError(Exception):
    """The set can't be fetched or parsed."""


@dataclass(frozen=True, slots=True, eq=False)
class Key:
    """A public key, and the algorithms that it may verify."""

    kid: str | None
    kty: str
    algorithms: frozenset[str]
    public: Any  # cryptography's
    use: str = "sig"


@dataclass(frozen=True)
class KeySet:
    """The usable keys of a set; no two of them have the same `kid` and algorithm."""

    keys: frozenset[Key]
    left_out: Mapping[str, str]  # the reason by kid; "" is a key without one

    def find(self, kid: str | None, alg: str) -> Key | None:
        """Return the key that fits; without `kid`, only if exactly one key fits."""
        keys = self.keys if kid is None else self._by_kid.get(kid, ())
        fitting = [key for key in keys if alg in key.algorithms]
        return fitting[0] if len(fitting) == 1 else None

    def lacks(self, kid: str | None, alg: str) -> bool:
        """Return whether such a key can only be in a newer set."""
        if kid is None:
            return not any(alg in key.algorithms for key in self.keys)
        return kid not in self._by_kid and kid not in self.left_out

    @cached_property
    def _by_kid(self) -> Mapping[str | None, list[Key]]:
        by_kid: dict[str | None, list[Key]] = {}
        for key in self.keys:
            by_kid.setdefault(key.kid, []).append(key)
        return by_kid


def read_keys(raw: bytes) -> KeySet:
    """Parse a set, without its unusable keys. Raises KeySetError."""
    usable: dict[str | None, list[Key]] = {}
    left_out = {}
    for jwk in map(_without_empty, _jwks_of(raw)):
        key = _key_of(jwk)
        if isinstance(key, Key):
            _add(usable.setdefault(key.kid, []), key)
        else:
            kid = jwk.get("kid") if isinstance(jwk, dict) else None
            left_out[kid if isinstance(kid, str) else ""] = key
    for kid in list(usable):
        if kid is not None and _is_ambiguous(usable[kid]):
            del usable[kid]
            left_out[kid] = "another key has the same kid"
    return KeySet(frozenset[Key]().union(*usable.values()), left_out)


def _jwks_of(raw: bytes) -> list[Any]:
    if len(raw) > MAX_BYTES:
        raise KeySetError("it is longer than 1 MiB")
    if raw.count(b",") + raw.count(b"{") + raw.count(b"[") > MAX_VALUES:
        raise KeySetError(f"it contains more than {MAX_VALUES} values")
    try:
        loaded = orjson.loads(raw.removeprefix(BOM_UTF8))
    except ValueError:
        raise KeySetError("it isn't JSON") from None
    jwks = loaded.get("keys") if isinstance(loaded, dict) else None
    if not isinstance(jwks, list):
        raise KeySetError("it isn't a JWK set")
    if len(jwks) > MAX_KEYS:
        raise KeySetError(f"it has more than {MAX_KEYS} keys")
    return jwks


def _without_empty(jwk: Any) -> Any:
    """Remove members without a value, which some libraries write for absent ones."""
    if not isinstance(jwk, dict):
        return jwk
    return {name: value for name, value in jwk.items() if value not in EMPTY}


def _add(keys: list[Key], added: Key) -> None:
    """Add a key of the same kid.

    A key that is listed twice is one key, with the algorithms of both entries.
    """
    for at, key in enumerate(keys):
        if (key.kty, key.use, key.public) == (added.kty, added.use, added.public):
            algorithms = key.algorithms | added.algorithms
            keys[at] = replace(key, algorithms=algorithms)
            return
    keys.append(added)


def _key_of(jwk: Any) -> Key | str:
    """Return a key, or the reason to leave it out."""
    kind = _kind_of(jwk) if isinstance(jwk, dict) else None
    if kind is None:
        return "its kty and crv aren't supported"
    if fault := _fault_of(jwk, kind):
        return fault
    try:
        public = jwt.PyJWK(jwk, algorithm=kind.algorithms[0]).key
    except Exception:  # noqa: BLE001  # a set may hold anything
        return "it can't be read"
    if isinstance(public, RSAPublicKey) and public.key_size < MIN_RSA_BITS:
        return f"it is shorter than {MIN_RSA_BITS} bits"
    algorithms = (jwk["alg"],) if "alg" in jwk else kind.algorithms
    use = jwk.get("use", USES[0])
    return Key(jwk.get("kid"), kind.kty, frozenset(algorithms), public, use)


def _kind_of(jwk: dict[str, Any]) -> Kind | None:
    named = (jwk.get("kty"), jwk.get("crv"))
    return next((kind for kind in KINDS if (kind.kty, kind.crv) == named), None)


def _fault_of(jwk: dict[str, Any], kind: Kind) -> str | None:
    operations = jwk.get("key_ops", ["verify"])
    can_verify = isinstance(operations, list) and "verify" in operations
    is_fit = jwk.get("alg", kind.algorithms[0]) in kind.algorithms
    faults = (
        ("it is private", not PRIVATE.isdisjoint(jwk)),
        ("its kid isn't text", not isinstance(jwk.get("kid", ""), str)),
        ("its use isn't sig or jwt-svid", jwk.get("use", USES[0]) not in USES),
        ("its key_ops lack verify", not can_verify),
        ("its alg isn't one of its kty and crv", not is_fit),
    )
    return next((fault for fault, is_so in faults if is_so), None)


def _is_ambiguous(keys: list[Key]) -> bool:
    algorithms = [alg for key in keys for alg in key.algorithms]
    return len({key.kty for key in keys}) > 1 or len(set(algorithms)) < len(algorithms)
