"""Tokens: valid signatures, forgeries, and arbitrary input."""

import asyncio
import contextlib
import json
from base64 import b64encode
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import example, given, settings
from hypothesis import strategies as st
from structlog.contextvars import bound_contextvars
from structlog.testing import capture_logs

from healthomics_gateway.auth.keyring import Keyring
from healthomics_gateway.auth.tokens import ALGORITHMS, Tokens, bearer
from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Reason
from testkit.issuer import (
    ABSENT,
    AUDIENCE,
    IDENTITY,
    ISSUER,
    KIND_OF,
    NOW,
    Signer,
    compact,
    jwks,
    right_claims,
)

SIGNERS = {kind: Signer(kind, kind) for kind in sorted(set(KIND_OF.values()))}
RSA, EC, ED = SIGNERS["RSA"], SIGNERS["P-256"], SIGNERS["Ed25519"]
UNKNOWN = Signer("RSA", "RSA", "unknown")  # another key of the same kid
INVALID, EXPIRED = Reason.TOKEN_INVALID, Reason.TOKEN_EXPIRED


class Counted(Keyring):
    """A keyring that counts its look-ups."""

    asked = 0

    async def key(self, kid: str | None, alg: str, *, host: str = "") -> Any:
        """Count a look-up."""
        self.asked += 1
        return await super().key(kid, alg, host=host)


class World:
    """A verifier, its keys and its clock."""

    def __init__(
        self,
        *keys: Signer | dict[str, Any],
        algorithms: tuple[str, ...] = ALGORITHMS,
        issuer: str = ISSUER,
        leeway_seconds: float = 5.0,
        **options: Any,
    ) -> None:
        self.now = NOW
        self.ticks = 1000.0
        self.published = jwks(*(keys or SIGNERS.values()))
        self.ring = Counted(self._read, refresh_seconds=300.0, clock=self._tick)
        self.tokens = Tokens(
            self.ring,
            issuer=issuer,
            audiences=frozenset({AUDIENCE, "another"}),
            algorithms=frozenset(algorithms),
            leeway_seconds=leeway_seconds,
            now=lambda: self.now,
            **options,
        )

    async def _read(self) -> bytes:
        return self.published

    def _tick(self) -> float:
        return self.ticks

    async def says(self, token: str) -> str | Reason:
        """Return the token's identity, or the reason of its error."""
        try:
            return (await self.tokens.credential_of(token)).identity
        except GatewayError as error:
            refusal = error
        # What PyJWT raised may hold the token.
        assert (None, None) == (refusal.__cause__, refusal.__context__)
        return refusal.reason

    async def replace(self, *keys: Signer) -> None:
        """Publish other keys, and read them."""
        self.published = jwks(*keys)
        self.ticks += 30  # unknown kids may cause a read again
        assert await self.ring.key("unknown", "RS256") is None


async def verdict(token: str, *keys: Signer | dict[str, Any], **options: Any) -> Any:
    """Return the verdict of a new verifier on a token."""
    return await World(*keys, **options).says(token)


# ---- signatures ----


@pytest.mark.parametrize("alg", [pytest.param(alg, id=alg) for alg in ALGORITHMS])
async def test_token_of_each_algorithm_is_accepted(alg: str) -> None:
    """A token that is signed with any of the algorithms proves its identity."""
    assert IDENTITY == await verdict(SIGNERS[KIND_OF[alg]].token(alg=alg))


@pytest.mark.parametrize("alg", [pytest.param(alg, id=alg) for alg in ALGORITHMS])
async def test_token_of_each_algorithm_needs_it_to_be_allowed(alg: str) -> None:
    """An algorithm that isn't allowed is refused before keys are looked up."""
    others = tuple(other for other in ALGORITHMS if other != alg)
    world = World(algorithms=others)

    assert INVALID is await world.says(SIGNERS[KIND_OF[alg]].token(alg=alg))
    assert 0 == world.ring.asked


@pytest.mark.parametrize("alg", [pytest.param(alg, id=alg) for alg in ALGORITHMS])
async def test_signature_by_another_key_is_refused(alg: str) -> None:
    """A signature by an unpublished key with a published kid is refused."""
    kind = KIND_OF[alg]
    forged = Signer(kind, kind, "unknown").token(alg=alg)

    assert INVALID is await verdict(forged)


@pytest.mark.guarantee("token-algorithms")
@pytest.mark.parametrize("alg", [pytest.param(alg, id=alg) for alg in ALGORITHMS])
async def test_key_of_another_type_is_not_used(alg: str) -> None:
    """A token whose kid names a key of another algorithm is refused."""
    signer = SIGNERS[KIND_OF[alg]]
    for other in set(SIGNERS.values()) - {signer}:
        assert INVALID is await verdict(
            signer.token(alg=alg, header={"kid": other.kid})
        )


async def test_algorithm_is_the_keys_own() -> None:
    """A key with `alg` verifies no other algorithm of its type."""
    only = RSA.jwk(alg="PS256")

    assert INVALID is await verdict(RSA.token(alg="RS256"), only)
    assert IDENTITY == await verdict(RSA.token(alg="PS256"), only)


@pytest.mark.guarantee("token-algorithms")
@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", "", None, ABSENT])
async def test_token_without_signature_is_refused(alg: Any) -> None:
    """No spelling of `none` is accepted, with any signature."""
    header = {"kid": "RSA"} if alg is ABSENT else {"alg": alg, "kid": "RSA"}
    for signature in (b"", b"any", RSA.signature(b"any", "RS256")):
        world = World()
        token = compact(header, right_claims(), sign=lambda _, s=signature: s)

        assert INVALID is await world.says(token)
        assert 0 == world.ring.asked


def as_pem(form: PublicFormat) -> bytes:
    """Return the public RSA key as PEM."""
    return RSA.private.public_key().public_bytes(Encoding.PEM, form)


SECRETS = {  # what a verifier might take for the secret of HS256
    "PEM": as_pem(PublicFormat.SubjectPublicKeyInfo),
    "PEM, stripped": as_pem(PublicFormat.SubjectPublicKeyInfo).strip(),
    "PEM, PKCS 1": as_pem(PublicFormat.PKCS1),
    "DER": RSA.private.public_key().public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    ),
    "JWK": json.dumps(RSA.jwk()).encode(),
    "JWK, sorted": json.dumps(
        RSA.jwk(), sort_keys=True, separators=(",", ":")
    ).encode(),
    "n": RSA.jwk()["n"].encode(),
    "nothing": b"",
}


@pytest.mark.guarantee("token-algorithms")
@pytest.mark.parametrize("alg", ["HS256", "HS384", "HS512", "hs256"])
@pytest.mark.parametrize("form", [pytest.param(form, id=form) for form in SECRETS])
async def test_public_key_is_no_secret(form: str, alg: str) -> None:
    """A MAC with the public key as its secret is refused, in any encoding."""
    mac = jwt.get_algorithm_by_name(alg.upper())
    for kid in ("RSA", "secret", ABSENT):
        named = {} if kid is ABSENT else {"kid": kid}
        token = compact(
            {"alg": alg} | named,
            right_claims(),
            sign=lambda text: mac.sign(text, SECRETS[form]),
        )
        secret = {"kid": "secret", "kty": "oct", "k": b64encode(SECRETS[form]).decode()}

        assert INVALID is await verdict(token, RSA, secret)


def test_symmetric_algorithm_can_not_be_allowed() -> None:
    """No setting allows symmetric algorithms."""
    for alg in ("HS256", "none", "ES256K", "RS257"):
        with pytest.raises(ValueError, match="asymmetric"):
            World(algorithms=("RS256", alg))


async def test_invalid_algorithm_is_refused() -> None:
    """A list of algorithms, or another spelling, is refused."""
    for alg in (["RS256"], {"RS256": 1}, "rs256", "RS256 ", 256, True):
        forged = RSA.token(header={"alg": alg}, alg="RS256")

        assert INVALID is await verdict(forged)


# ---- keys ----


async def test_unknown_kid_is_refused() -> None:
    """A kid that isn't published is refused, even with a known key."""
    assert INVALID is await verdict(RSA.token(header={"kid": "unknown"}))


@pytest.mark.parametrize("kid", [7, None, ["RSA"], {"RSA": 1}, True, "", "RSA ", "rsa"])
async def test_kid_is_compared_exactly(kid: Any) -> None:
    """A kid is text, and must be equal."""
    assert INVALID is await verdict(RSA.token(header={"kid": kid}))
    assert INVALID is await verdict(RSA.token(header={"kid": kid}), RSA)


async def test_token_without_kid_needs_a_single_key() -> None:
    """Without a kid, exactly one key must fit the algorithm."""
    token = RSA.token(header={"kid": ABSENT})
    other = Signer("other", "RSA", "unknown")

    assert IDENTITY == await verdict(token)
    assert INVALID is await verdict(token, RSA, other)
    assert IDENTITY == await verdict(token, RSA, other.jwk(alg="PS256"))
    assert IDENTITY == await verdict(token, Signer(None))
    assert INVALID is await verdict(token, EC)


@pytest.mark.parametrize("name", ["jwk", "jku", "x5u", "x5c"])
async def test_key_in_a_header_is_not_used(name: str) -> None:
    """A key, or the URL of one, in a token's header is ignored."""
    url = "https://evil.test/jwks.json"
    brought = {"jwk": UNKNOWN.jwk(), "jku": url, "x5u": url, "x5c": ["AAAA"]}[name]

    assert INVALID is await verdict(UNKNOWN.token(header={name: brought}))
    assert IDENTITY == await verdict(RSA.token(header={name: brought}))


@pytest.mark.parametrize("crit", [["exp"], ["b64"], [], None, "b64", ["crit"]])
async def test_token_with_extensions_is_refused(crit: Any) -> None:
    """A token with `crit` is refused, as no extension is supported."""
    world = World()
    header = {"crit": crit, "b64": True, "exp": 1}

    assert INVALID is await world.says(RSA.token(header=header))
    assert 0 == world.ring.asked


async def test_detached_payload_is_refused() -> None:
    """A token with a detached payload is refused."""
    assert INVALID is await verdict(RSA.token(header={"b64": False}))


async def test_issuer_that_is_down_is_not_the_callers_fault() -> None:
    """Before the first keys the error is AUTH_BACKEND_UNAVAILABLE."""
    world = World()
    world.published = b"<html>"

    assert Reason.AUTH_BACKEND_UNAVAILABLE is await world.says(RSA.token())
    assert INVALID is await world.says(RSA.token(alg="RS256", header={"alg": "none"}))


# ---- cheap refusals ----


TOKEN = RSA.token()
HEADER, CLAIMS, SIGNATURE = TOKEN.split(".")
GARBAGE = {
    "empty": "",
    "dots": "..",
    "a word": "token",
    "no signature": f"{HEADER}.{CLAIMS}",
    "signature stripped": f"{HEADER}.{CLAIMS}.",
    "header stripped": f".{CLAIMS}.{SIGNATURE}",
    "claims stripped": f"{HEADER}..{SIGNATURE}",
    "two headers": f"{HEADER}.{TOKEN}",
    "two tokens": f"{TOKEN},{TOKEN}",
    "encrypted": f"{HEADER}.{CLAIMS}.{CLAIMS}.{CLAIMS}.{SIGNATURE}",
    "space before": f" {TOKEN}",
    "newline after": f"{TOKEN}\n",
    "zero byte": f"{TOKEN}\0",
    "padded": f"{HEADER}=.{CLAIMS}.{SIGNATURE}",
    "alphabet of plain base64": f"{HEADER}.{CLAIMS}.{SIGNATURE[:-4]}+/+/",
    "lone surrogate": f"{TOKEN}\ud800",
    "digits of another script": f"{HEADER}.{CLAIMS}.{SIGNATURE[:-1]}٣",
    "length no base64 has": f"{HEADER}A.{CLAIMS}.{SIGNATURE}",
    "header of a list": compact([], right_claims(), sign=lambda _: b"x"),
    "header of text": compact("RS256", right_claims(), sign=lambda _: b"x"),
    "header of null": compact(None, right_claims(), sign=lambda _: b"x"),
    "header in UTF-16": compact(
        json.dumps({"alg": "RS256"}).encode("utf-16"), {}, sign=lambda _: b"x"
    ),
    "header deep": compact(b"[" * 2000, {}, sign=lambda _: b"x"),
    "header with a huge number": compact(
        b'{"alg":"RS256","kid":%s}' % (b"9" * 5000), {}, sign=lambda _: b"x"
    ),
    "too long": RSA.token(name="x" * 8192),
}


@pytest.mark.parametrize("garbage", [pytest.param(each, id=each) for each in GARBAGE])
async def test_malformed_token_causes_no_key_look_up(garbage: str) -> None:
    """Text that isn't shaped like a token is refused before keys are looked up."""
    world = World()

    assert INVALID is await world.says(GARBAGE[garbage])
    assert 0 == world.ring.asked


async def test_token_of_8_kib_is_read() -> None:
    """A token may be as long as the metadata."""
    short = len(RSA.token(name=""))
    token = RSA.token(name="x" * ((8190 - short) * 3 // 4))

    assert 8180 < len(token) <= 8192
    assert IDENTITY == await verdict(token)


async def test_signature_written_in_another_way_is_refused() -> None:
    """Unused bits of the encoding can't make another token of the same signature."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    token = ED.token()  # 64 bytes: the last letter has four bits too many
    last = alphabet.index(token[-1])
    assert 0 == last % 16

    for spare in (1, 5, 15):
        assert INVALID is await verdict(token[:-1] + alphabet[last + spare])


# ---- claims ----


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param([right_claims()], id="list"),
        pytest.param(None, id="null"),
        pytest.param("alice", id="text"),
        pytest.param(7, id="number"),
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff\xfe", id="no UTF-8"),
        pytest.param(b'{"sub":' + b"[" * 4000, id="deep"),
        pytest.param(b"[" * 1500 + b"]" * 1500, id="deep list"),
        pytest.param(b'{"exp":%s}' % (b"9" * 5000), id="huge number"),
    ],
)
async def test_payload_that_is_not_an_object_is_refused(payload: Any) -> None:
    """A payload with a valid signature must be a JSON object too."""
    token = compact(
        {"alg": "EdDSA", "kid": "Ed25519"},
        payload,
        sign=lambda text: ED.signature(text, "EdDSA"),
    )

    assert INVALID is await verdict(token)


@pytest.mark.guarantee("authentication")
@pytest.mark.parametrize(
    ("claim", "value"),
    [
        ("iss", ABSENT),
        ("iss", f"{ISSUER}/"),
        ("iss", ISSUER.upper()),
        ("iss", [ISSUER]),
        ("iss", None),
        ("aud", ABSENT),
        ("aud", "elsewhere"),
        ("aud", AUDIENCE.upper()),
        ("aud", ""),
        ("aud", []),
        ("aud", ["elsewhere"]),
        ("aud", [AUDIENCE, 7]),
        ("aud", {AUDIENCE: 1}),
        ("aud", None),
        ("exp", ABSENT),
        ("exp", None),
        ("exp", str(int(NOW) + 300)),
        ("exp", True),
        ("exp", [NOW + 300]),
        ("exp", float("nan")),
        ("exp", float("inf")),
        ("exp", float("-inf")),
        ("exp", 1e300),
        ("exp", 10**400),
        ("exp", -(10**400)),
        ("exp", 253_402_300_800),
        ("nbf", NOW + 6),
        ("nbf", None),
        ("nbf", "0"),
        ("nbf", True),
        ("nbf", float("nan")),
        ("nbf", float("-inf")),
        ("iat", NOW + 6),
        ("iat", None),
        ("iat", "0"),
        ("iat", False),
        ("iat", float("nan")),
        ("iat", 10**400),
        ("sub", ABSENT),
        ("sub", None),
        ("sub", ""),
        ("sub", 7),
        ("sub", [IDENTITY]),
        ("sub", "x" * 257),
        ("sub", "anonymous"),
        ("sub", "alice\n"),
        ("sub", "alice\0"),
        ("sub", "ali\x7fce"),
        ("sub", "\u202ealice"),
        ("sub", "\ud800"),
        ("jti", 7),
    ],
)
async def test_invalid_claim_is_refused(claim: str, value: Any) -> None:
    """Each claim that is checked must be present and valid."""
    assert INVALID is await verdict(ED.token(**{claim: value}))


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        ("aud", "another"),
        ("aud", ["elsewhere", AUDIENCE]),
        ("exp", NOW + 0.5),
        ("exp", NOW - 4.9),
        ("exp", 253_402_300_799),
        ("nbf", NOW + 5),
        ("nbf", 0),
        ("nbf", -1.5),
        ("iat", NOW + 5),
        ("iat", ABSENT),
    ],
)
async def test_valid_claim_is_accepted(claim: str, value: Any) -> None:
    """Valid claims are accepted, with a leeway for the issuer's clock."""
    assert IDENTITY == await verdict(ED.token(**{claim: value}))


@pytest.mark.parametrize("exp", [NOW - 5, NOW - 5.5, 0, -7, -1e9])
async def test_expired_token_has_its_own_reason(exp: float) -> None:
    """An expired token is TOKEN_EXPIRED, so that the caller gets a new one."""
    assert EXPIRED is await verdict(ED.token(exp=exp))


async def test_invalid_and_expired_token_is_invalid() -> None:
    """An invalid token is TOKEN_INVALID, even if it has expired too."""
    assert INVALID is await verdict(UNKNOWN.token(exp=NOW - 60))
    assert INVALID is await verdict(RSA.token(exp=NOW - 60, aud="elsewhere"))
    assert INVALID is await verdict(RSA.token(exp=NOW - 60, sub=""))


@pytest.mark.parametrize(
    "identity",
    ["x", "x" * 256, "system:serviceaccount:runs:reader", "Zoë Ω", "Anonymous", "a*"],
)
async def test_identity_is_the_claim_unchanged(identity: str) -> None:
    """Any printable text of up to 256 characters is an identity."""
    assert identity == await verdict(ED.token(sub=identity))


async def test_identity_is_of_the_claim_that_was_set() -> None:
    """The identity is read from the claim in the settings."""
    name = "https://issuer.test/email"
    token = ED.token(**{name: "alice@issuer.test", "sub": "other"})

    assert "alice@issuer.test" == await verdict(token, identity_claim=name)
    assert INVALID is await verdict(ED.token(), identity_claim=name)


async def test_audience_is_of_the_claim_that_was_set() -> None:
    """The audience is read from the claim in the settings."""
    token = ED.token(aud=ABSENT, client_id=AUDIENCE)
    options = {"audience_claim": "client_id"}

    assert IDENTITY == await verdict(token, **options)
    assert INVALID is await verdict(token)
    assert INVALID is await verdict(ED.token(client_id="elsewhere"), **options)
    assert INVALID is await verdict(ED.token(), **options)


async def test_leeway_is_as_long_as_it_was_set() -> None:
    """The issuer's clock may differ by the leeway, and no more."""
    within = (ED.token(nbf=NOW + 30), ED.token(iat=NOW + 30), ED.token(exp=NOW - 29))
    beyond = (ED.token(nbf=NOW + 31), ED.token(iat=NOW + 31), ED.token(exp=NOW - 30))
    world = World(leeway_seconds=30.0)

    assert [IDENTITY] * 3 == [await world.says(each) for each in within]
    assert [INVALID, INVALID, EXPIRED] == [await world.says(each) for each in beyond]


DOMAIN = "spiffe://example.org"
WORKLOAD = f"{DOMAIN}/lims"


@pytest.mark.parametrize(
    ("claims", "issuer", "use", "found"),
    [
        ({"sub": WORKLOAD}, DOMAIN, "jwt-svid", WORKLOAD),
        ({"sub": DOMAIN}, DOMAIN, "jwt-svid", DOMAIN),
        ({"sub": WORKLOAD, "iss": DOMAIN}, DOMAIN, "jwt-svid", WORKLOAD),
        ({"sub": WORKLOAD, "iss": ISSUER}, ISSUER, "jwt-svid", WORKLOAD),
        ({"sub": WORKLOAD}, DOMAIN, "sig", INVALID),
        ({"sub": WORKLOAD}, ISSUER, "jwt-svid", INVALID),
        ({"sub": WORKLOAD}, f"{DOMAIN}/lims", "jwt-svid", INVALID),
        ({"sub": WORKLOAD, "iss": None}, DOMAIN, "jwt-svid", INVALID),
        ({"sub": WORKLOAD, "iss": ISSUER}, DOMAIN, "jwt-svid", INVALID),
        ({"sub": WORKLOAD, "aud": "elsewhere"}, DOMAIN, "jwt-svid", INVALID),
        ({"sub": "spiffe://example.org.evil/lims"}, DOMAIN, "jwt-svid", INVALID),
        ({"sub": "spiffe://example.org/../lims"}, DOMAIN, "jwt-svid", INVALID),
        ({"sub": "alice"}, DOMAIN, "jwt-svid", INVALID),
        ({"sub": [WORKLOAD]}, DOMAIN, "jwt-svid", INVALID),
    ],
)
async def test_token_without_issuer_is_of_a_spiffe_domain(
    claims: dict[str, Any], issuer: str, use: str, found: str | Reason
) -> None:
    """A token without `iss` needs a SPIFFE key and a subject of the trust domain."""
    token = ED.token(**({"iss": ABSENT} | claims))

    assert found == await verdict(token, ED.jwk(use=use), issuer=issuer)


@pytest.mark.parametrize(
    ("token", "check"),
    [
        pytest.param("x", "shape", id="no token"),
        pytest.param(ED.token(iss="elsewhere"), "issuer", id="issuer"),
        pytest.param(ED.token(aud="elsewhere"), "audience", id="audience"),
        pytest.param(ED.token(exp=NOW - 60), "exp", id="expired"),
        pytest.param(ED.token(nbf=NOW + 60), "nbf", id="not yet"),
        pytest.param(ED.token(iat=NOW + 60), "iat", id="from tomorrow"),
        pytest.param(ED.token(sub=""), "identity", id="empty"),
        pytest.param(UNKNOWN.token(), "signature and JSON", id="forged"),
        pytest.param(ED.token(header={"kid": "other"}), "key", id="unknown key"),
        pytest.param(ED.token(header={"alg": "none"}), "algorithm", id="algorithm"),
        pytest.param(ED.token(header={"crit": []}), "header", id="extension"),
    ],
)
async def test_check_that_failed_is_logged(token: str, check: str) -> None:
    """The log names the failed check, and nothing of the token."""
    with capture_logs() as events, bound_contextvars(request_id="r-1"):
        await verdict(token)

    refused = [event for event in events if event["event"] == "token_refused"]
    assert [check] == [event["check"] for event in refused]
    assert {"event", "log_level", "check", "request_id"} == refused[0].keys()


# ---- the cache ----


async def test_token_that_was_verified_is_not_verified_again() -> None:
    """A cached token causes no key look-up."""
    world = World()

    assert [IDENTITY] * 3 == [await world.says(TOKEN) for _ in range(3)]
    assert 1 == world.ring.asked


async def test_cached_token_expires() -> None:
    """A cached token is refused from the moment it expires."""
    world = World()
    token = ED.token(exp=NOW + 60)
    assert IDENTITY == await world.says(token)

    world.now = NOW + 64.9
    assert IDENTITY == await world.says(token)
    assert 1 == world.ring.asked
    world.now = NOW + 65
    assert EXPIRED is await world.says(token)
    assert EXPIRED is await world.says(token)


async def test_cached_token_is_refused_when_its_key_is_withdrawn() -> None:
    """A cached token is refused once its key is no longer published."""
    world = World(RSA, EC)
    assert IDENTITY == await world.says(RSA.token())
    assert IDENTITY == await world.says(EC.token())

    await world.replace(EC)

    assert INVALID is await world.says(TOKEN)
    assert IDENTITY == await world.says(EC.token())


async def test_cached_token_is_refused_when_its_kid_gets_another_key() -> None:
    """A cached token is refused once its kid names another key."""
    world = World(RSA)
    assert IDENTITY == await world.says(TOKEN)

    await world.replace(UNKNOWN)

    assert INVALID is await world.says(TOKEN)
    assert IDENTITY == await world.says(UNKNOWN.token())


async def test_failure_is_not_cached() -> None:
    """A token that is refused now may be accepted later."""
    world = World(EC)
    early = EC.token(nbf=NOW + 60)
    assert INVALID is await world.says(TOKEN)
    assert INVALID is await world.says(early)

    await world.replace(RSA, EC)
    world.now = NOW + 60

    assert IDENTITY == await world.says(TOKEN)
    assert IDENTITY == await world.says(early)


async def test_cache_is_bounded() -> None:
    """Beyond the bound the least recently used tokens are verified again."""
    world = World(max_cached=2)
    tokens = [ED.token(sub=name) for name in ("a", "b", "c")]
    for token in (tokens[0], tokens[1], tokens[0], tokens[2], tokens[0]):
        await world.says(token)
    assert 3 == world.ring.asked

    assert "b" == await world.says(tokens[1])
    assert 4 == world.ring.asked


async def test_expired_tokens_evict_no_others() -> None:
    """Expired tokens take no place in the cache."""
    world = World(max_cached=1)
    await world.says(TOKEN)
    assert EXPIRED is await world.says(ED.token(exp=NOW - 60))

    assert IDENTITY == await world.says(TOKEN)
    assert 2 == world.ring.asked


async def test_cache_key_is_the_whole_token() -> None:
    """Another signature of the same claims isn't found in the cache."""
    world = World()
    assert IDENTITY == await world.says(TOKEN)

    assert INVALID is await world.says(f"{HEADER}.{CLAIMS}.{SIGNATURE[:-8]}AAAAAAAA")


async def test_token_is_stored_and_logged_nowhere() -> None:
    """No error, log line or cache contains a token."""
    world = World()
    wrong = (UNKNOWN.token(), RSA.token(exp=0), RSA.token(header={"kid": "unknown"}))
    with capture_logs() as events:
        assert IDENTITY == await world.says(TOKEN)
        shown = [repr(world.tokens), str(vars(world.tokens))]
        for token in (*wrong, *GARBAGE.values()):
            with pytest.raises(GatewayError) as caught:
                await world.tokens.credential_of(token)
            error = caught.value
            shown.append(f"{error} {error!r} {vars(error)}")

    everything = f"{shown} {events}"
    secrets = {part for each in (TOKEN, *wrong) for part in each.split(".")}
    assert [] == [secret for secret in secrets if secret in everything]


# ---- whatever is sent ----


def tried(token: str) -> str | Reason:
    """Return a verdict, in a separate event loop."""
    return asyncio.run(verdict(token, ED, RSA, EC))


@settings(max_examples=100, deadline=None)
@given(st.text() | st.text(alphabet="ey.-_=AZ09 ") | st.binary().map(str))
def test_any_text_is_refused(text: str) -> None:
    """Any text in place of a token is TOKEN_INVALID, and nothing fails."""
    assert INVALID is tried(text)


TOKENS = st.sampled_from([ED.token(), RSA.token(), EC.token()])


@settings(max_examples=100, deadline=None)
@given(TOKENS, st.data())
def test_token_that_was_changed_is_refused(token: str, data: st.DataObject) -> None:
    """No change of a valid token makes another valid token."""
    start = data.draw(st.integers(0, len(token)))
    end = data.draw(st.integers(start, min(len(token), start + 4)))
    alphabet = st.sampled_from("ABCDwxyz0189-_.=") | st.characters()
    put = data.draw(st.text(alphabet, max_size=4))
    changed = token[:start] + put + token[end:]

    assert (IDENTITY if changed == token else INVALID) == tried(changed)


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.floats()
    | st.integers()
    | st.integers(-(10**400), 10**400)
    | st.text(st.characters(), max_size=20)
    | st.sampled_from([ISSUER, AUDIENCE, IDENTITY, NOW, "none", "RS256", "Ed25519"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner)
    ),
    max_leaves=5,
)
HEADER_NAMES = st.sampled_from(
    ["alg", "kid", "typ", "cty", "crit", "b64", "jwk", "jku", "x5c", "zip"]
)
CLAIM_NAMES = st.sampled_from(["iss", "aud", "sub", "exp", "nbf", "iat", "jti"])


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(HEADER_NAMES, ANYTHING, max_size=2),
    st.dictionaries(CLAIM_NAMES, ANYTHING, max_size=2) | ANYTHING,
)
@example({}, {"exp": 10**400})
@example({"alg": {}}, {})
@example({"kid": []}, {})
@example({}, {"sub": "\ud800"})
def test_token_of_any_content_is_accepted_or_refused(
    header: dict[str, Any], claims: Any
) -> None:
    """A signed token of any header and claims has an identity or a reason."""
    token = compact(
        {"alg": "EdDSA", "kid": "Ed25519"} | header,
        right_claims() | claims if isinstance(claims, dict) else claims,
        sign=lambda text: ED.signature(text, "EdDSA"),
    )
    found = tried(token)

    if not isinstance(found, Reason):
        assert found == claims.get("sub", IDENTITY)
        assert found.isprintable()
    else:
        assert found in {INVALID, EXPIRED}


# ---- metadata ----


def test_metadata_without_authorization_has_no_token() -> None:
    """A call without a token differs from one with an invalid token."""
    assert bearer(()) is None
    assert bearer((("x-authorization", "Bearer a"), ("user-agent", "b"))) is None


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR"])
def test_metadata_has_a_token_of_the_scheme(scheme: str) -> None:
    """The scheme's name is case-insensitive."""
    metadata = (("user-agent", "b"), ("authorization", f"{scheme} {TOKEN}"))

    assert TOKEN == bearer(metadata)


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(["Bearer a", "Bearer a"], id="twice"),
        pytest.param(["Bearer a", ""], id="once and nothing"),
        pytest.param(["Bearer a, Bearer b"], id="joined by a proxy"),
        pytest.param([b"Bearer a"], id="bytes"),
        pytest.param([""], id="empty"),
        pytest.param(["Bearer"], id="no token"),
        pytest.param(["Bearer "], id="empty token"),
        pytest.param(["Bearer  a"], id="two spaces"),
        pytest.param(["Bearer\ta"], id="tab"),
        pytest.param([" Bearer a"], id="space before"),
        pytest.param(["Bearer a "], id="space after"),
        pytest.param(["Bearer a b"], id="space inside"),
        pytest.param(["Bearer a\n"], id="newline"),
        pytest.param(["Bearer a\u00a0"], id="no-break space"),
        pytest.param(["Bearer ä"], id="no ASCII"),
        pytest.param(["Basic YTpi"], id="basic"),
        pytest.param(["DPoP a"], id="dpop"),
        pytest.param(["Bearer:a"], id="colon"),
        pytest.param([TOKEN], id="no scheme"),
    ],
)
def test_metadata_that_is_malformed_is_refused(values: list[str | bytes]) -> None:
    """Metadata that isn't exactly one Bearer token is refused."""
    with pytest.raises(GatewayError) as caught:
        bearer([("authorization", value) for value in values])

    assert INVALID is caught.value.reason


@settings(max_examples=100, deadline=None)
@given(st.text() | st.text(alphabet="Bearer az09.=").map("Bearer {}".format))
def test_any_metadata_has_a_token_or_is_refused(text: str) -> None:
    """A token from metadata is ASCII without whitespace."""
    with contextlib.suppress(GatewayError):
        token = bearer([("authorization", text)])
        assert token
        assert token.isascii()
        assert [token] == token.split()
