"""Checks that the issuer's keys can be read, and that tokens can be verified."""

from __future__ import annotations

from collections.abc import Mapping

from healthomics_gateway.app.caller_wiring import make_keyring
from healthomics_gateway.auth.jwks import KeySet
from healthomics_gateway.check.found import Found, known
from healthomics_gateway.check.step import Result, failed, ok, skipped
from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.net.urls import masked_url
from healthomics_gateway.settings.schema import Jwt

_TLS = "its certificate isn't trusted; set jwt.ca_file to its authority"
_CONNECTION = "it can't be connected to; check the URL, routes, firewalls and proxies"
_SLOW = "it doesn't answer in time; check the URL, routes, firewalls and proxies"
# By the class of the error, as the log has it too.
ADVICE: Mapping[str, str] = {
    "ClientConnectorCertificateError": _TLS,
    "ClientConnectorSSLError": "the TLS handshake fails; check the port of the URL",
    "ClientConnectorDNSError": "its name doesn't resolve; correct the URL, and check"
    " this machine's DNS servers",
    "ClientConnectorError": _CONNECTION,
    "ClientOSError": _CONNECTION,
    "ServerDisconnectedError": _CONNECTION,
    "TimeoutError": _SLOW,
    "ConnectionTimeoutError": _SLOW,
    "SocketTimeoutError": _SLOW,
}
FAULTY = ("jwt", "GATEWAY_JWT")  # how a fault of its settings begins
OTHER = "check that it is the URL or file of the issuer's JWK set"


async def check_jwks(found: Found) -> Result:
    """Read the issuer's keys once, as the gateway does, if it would start."""
    if any(fault.startswith(FAULTY) for fault in found.faults):
        return skipped("needs the settings of jwt without a fault")
    jwt = found.settings.jwt
    keyring = make_keyring(jwt, report=lambda _: None)
    if keyring is None:
        return skipped(
            "no tokens are verified: jwt.jwks_url and jwt.jwks_file are unset"
        )
    try:
        await keyring.key(None, min(jwt.algorithms))
    except GatewayError:
        fault = keyring.fault() or "TimeoutError"
        return failed(f"{_name(jwt)}: {ADVICE.get(fault, f'{fault}; {OTHER}')}")
    finally:
        await keyring.close()
    return _result(jwt, known(keyring.keys, "jwks"))


def _name(jwt: Jwt) -> str:
    return (
        f"jwt.jwks_url {masked_url(jwt.jwks_url)}" if jwt.jwks_url else "jwt.jwks_file"
    )


def _result(jwt: Jwt, keys: KeySet) -> Result:
    usable = [key for key in keys.keys if key.algorithms & jwt.algorithms]
    left_out = [
        f"{kid or 'a key without kid'}: {why}" for kid, why in keys.left_out.items()
    ]
    algorithms = ", ".join(sorted(jwt.algorithms))
    if usable:
        number = len(usable)
        text = f"{number} key{'s' if number > 1 else ''} for {algorithms}"
        return ok(text, *(f"left out: {each}" for each in left_out))
    others = sorted({alg for key in keys.keys for alg in key.algorithms})
    has = [f"it has keys for {', '.join(others)}"] if others else []
    why = "; ".join(has + [f"left out: {each}" for each in left_out]) or "it is empty"
    return failed(
        f"{_name(jwt)}: it has no usable key for {algorithms}; publish one, or set"
        f" jwt.algorithms ({why})"
    )
