"""What an operator can do about each reason for which AWS can't be used."""

from __future__ import annotations

from collections.abc import Mapping

from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.upstream.classify import CODES
from healthomics_gateway.upstream.provider import ChainError

_AGAIN = "try again later; if it lasts, look at AWS's health dashboard"
_ANSWER = "check that the endpoint is AWS's, and report this if it is"

ADVICE: Mapping[Reason, str] = {
    Reason.GATEWAY_CREDENTIALS_UNAVAILABLE: "there are no usable credentials; try"
    " `aws sts get-caller-identity` with the same settings",
    Reason.GATEWAY_CREDENTIALS_EXPIRED: "the credentials have expired; renew them, or"
    " use a source that renews them by itself, such as a role",
    Reason.GATEWAY_CREDENTIALS_INVALID: "AWS doesn't know the access key, or lacks its"
    " session token; correct AWS_ACCESS_KEY_ID and AWS_SESSION_TOKEN, or the profile",
    Reason.GATEWAY_CLOCK_SKEW: "AWS refuses the time of the signature; synchronize this"
    " machine's clock, as by chrony",
    Reason.GATEWAY_SIGNATURE_REJECTED: "AWS rejects the signature; correct the secret"
    " access key (AWS_SECRET_ACCESS_KEY, or the profile), the Region and the clock",
    Reason.GATEWAY_ACCOUNT_NOT_ENABLED: "the account isn't enabled for HealthOmics;"
    " enable it in the console",
    Reason.GATEWAY_REQUEST_REJECTED: "the server doesn't understand the request;"
    " correct AWS_ENDPOINT_URL_OMICS, or unset it",
    Reason.RUN_NOT_FOUND: "there is no such run in this account and Region; correct the"
    " id or the Region. The permission to read runs isn't missing",
    Reason.RUN_CONFLICT: "HealthOmics can't return this run in its current state; try"
    " another run",
    Reason.UPSTREAM_VALIDATION: "HealthOmics rejects the id; correct it",
    Reason.UPSTREAM_ACCESS_DENIED: "access is denied; allow omics:GetRun on the run in"
    " the policy of this identity, and look for policies that deny it",
    Reason.UPSTREAM_QUOTA_EXCEEDED: "a service quota of the account is exceeded;"
    " request a higher one",
    Reason.UPSTREAM_THROTTLED: "the account's rate of calls is used up; try again, and"
    " find out who else calls, or lower quota.tps",
    Reason.UPSTREAM_TIMEOUT: "there is no answer in time; check routes, security groups"
    " and firewalls, and HTTPS_PROXY if a proxy is needed",
    Reason.UPSTREAM_INTERNAL: f"HealthOmics reports an internal error; {_AGAIN}",
    Reason.UPSTREAM_UNAVAILABLE: f"HealthOmics is unavailable; {_AGAIN}",
    Reason.UPSTREAM_CONNECTION: "the connection fails; check that the endpoint and its"
    " port are right, and that routes, firewalls and the proxy let it pass",
    Reason.UPSTREAM_DNS: "the host's name doesn't resolve; correct the Region or"
    " AWS_ENDPOINT_URL_OMICS, and check this machine's DNS servers",
    Reason.UPSTREAM_TLS: "the TLS handshake fails; check that the port serves TLS and"
    " that no firewall ends the connection",
    Reason.UPSTREAM_TLS_UNTRUSTED: "its certificate isn't trusted; if a proxy inspects"
    " TLS, set AWS_CA_BUNDLE to a file with its authority and AWS's",
    Reason.UPSTREAM_UNEXPECTED_REDIRECT: "it answers with a redirect, which isn't"
    " followed; set AWS_ENDPOINT_URL_OMICS to the final address",
    Reason.UPSTREAM_UNRECOGNIZED: f"the error isn't one of AWS's; {_ANSWER}",
    Reason.UPSTREAM_MALFORMED_RESPONSE: f"the answer can't be read; {_ANSWER}",
    Reason.UPSTREAM_IDENTITY_MISMATCH: f"the answer is about another run; {_ANSWER}",
    Reason.UPSTREAM_RESPONSE_TOO_LARGE: "the answer is too large; check that the"
    " endpoint is AWS's, or raise upstream.max_body_bytes",
}
TIMED_OUT = f"HealthOmics answers that it was too slow; {_AGAIN}"
UNKNOWN = "it can't be used; look at the log of `serve`"
UNKNOWN_OF_STS = (
    "STS can't be used; try `aws sts get-caller-identity` with the same settings"
)

# Exceptions of boto3 that mean that STS hasn't answered.
UNREACHED = frozenset(
    {
        "ConnectTimeoutError",
        "ConnectionClosedError",
        "ConnectionError",
        "EndpointConnectionError",
        "HTTPClientError",
        "ProxyConnectionError",
        "ReadTimeoutError",
        "SSLError",
    }
)
# Exceptions that mean that no request can be sent to STS.
NO_ADDRESS = frozenset({"AwsSettingsError", "ProxyError"})


def advice_of(reason: Reason) -> str:
    """Return what is wrong, and what to do about it."""
    return ADVICE.get(reason, UNKNOWN)


def sts_advice(error: ChainError) -> str:
    """Return what is wrong with a request to STS, and what to do about it."""
    if error.name in UNREACHED:
        return (
            f"STS can't be reached ({error.name}); check DNS, routes and HTTPS_PROXY,"
            " or create a VPC endpoint for STS"
        )
    if error.name in NO_ADDRESS:
        return (
            f"the address of STS isn't valid ({error.name}); correct"
            " AWS_ENDPOINT_URL_STS, AWS_ENDPOINT_URL and HTTPS_PROXY, or unset them"
        )
    verdict = CODES.get(error.name)
    advice = advice_of(verdict.reason) if verdict else UNKNOWN_OF_STS
    return f"{advice} ({error.name})"
