"""boto3's credential chain, read without prompts; a failure has advice to log."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import botocore.session
from botocore.exceptions import (
    ClientError,
    ConfigParseError,
    CredentialRetrievalError,
    InfiniteLoopConfigError,
    InvalidConfigError,
    LoginError,
    MetadataRetrievalError,
    MissingDependencyException,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)

from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.upstream.classify import SAFE_CODE
from healthomics_gateway.upstream.provider import ChainError

# From botocore's names of its providers to those in the log.
SOURCES = {
    "env": "environment",
    "assume-role": "role of a profile",
    "assume-role-with-web-identity": "web identity",
    "sso": "single sign-on",
    "login": "aws login",
    "shared-credentials-file": "credentials file",
    "custom-process": "credential_process",
    "config-file": "configuration file",
    "container-role": "container",
    "iam-role": "instance metadata",
}


class PromptError(Exception):
    """A role needs a code that a person would have to type."""


_CODE = (
    "the profile has mfa_serial, and the gateway never asks for a code; use a role"
    " without it, or credential_process"
)
PROFILES = (
    "correct AWS_PROFILE; `aws configure list-profiles` lists the profiles, which are"
    " read from AWS_CONFIG_FILE (~/.aws/config) and AWS_SHARED_CREDENTIALS_FILE"
    " (~/.aws/credentials)"
)
# The first row whose class matches is used. An exception's own text isn't logged, as it
# may hold secrets, ARNs and paths.
ADVICE: tuple[tuple[type[Exception], str], ...] = (
    (PromptError, _CODE),
    (SSOError, "there is no valid session; run aws sso login"),
    (TokenRetrievalError, "there is no valid session; run aws sso login"),
    (LoginError, "there is no valid session; run aws login"),
    (MissingDependencyException, "it needs a library: install botocore[crt]"),
    (ProfileNotFound, f"the configuration has no such profile; {PROFILES}"),
    (PartialCredentialsError, "an access key and its secret are needed; set both"),
    (
        CredentialRetrievalError,
        "it returned no credentials; try it outside the gateway",
    ),
    (MetadataRetrievalError, "it can't be reached, or has no role attached"),
    (ConfigParseError, "the configuration can't be read; correct it"),
    (InfiniteLoopConfigError, "profiles name each other as their source; correct them"),
    (InvalidConfigError, "the profile lacks something; correct it"),
    (ClientError, "AWS refused it; look at the role's trust policy"),
    (RuntimeError, "the credentials have expired; renew them"),
    (ValueError, "its output can't be read; try it outside the gateway"),
    (OSError, "a file or program that the AWS settings name can't be read or run"),
)
NOTHING = (
    "no source has credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or"
    " AWS_PROFILE, or run where a role is attached"
)
MALFORMED = (
    "it contains a space, a newline or another character that isn't allowed in a header"
)

HEADER_VALUE = re.compile(r"[\x21-\x7e]+")
_REGION = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


def session_of(environ: Mapping[str, str]) -> Any:
    """Return botocore's session, whose Region may also come from AWS_REGION.

    AWS_DEFAULT_REGION comes first, then AWS_REGION, which other SDKs, containers and
    Lambda set, then the profile.
    """
    session = botocore.session.Session()
    region = environ.get("AWS_DEFAULT_REGION") or environ.get("AWS_REGION")
    if region:
        session.set_config_variable("region", region)
    return session


def region_fault(region: str) -> str | None:
    """Return what is wrong with a Region's name; botocore accepts a newline."""
    if _REGION.fullmatch(region):
        return None
    return (
        "it isn't the name of a Region; write letters, digits and hyphens, such as"
        " us-east-1"
    )


def faults_of_keys(environ: Mapping[str, str]) -> list[str]:
    """Return the faults of credentials in the environment, without their values."""
    return [
        f"{name}: {MALFORMED}"
        for name in _KEYS
        if environ.get(name) and not HEADER_VALUE.fullmatch(environ[name])
    ]


def read_chain(*, start: Callable[..., Any] = subprocess.Popen) -> Any:
    """Return botocore's credentials, or raise ChainError. This blocks.

    `start` starts a program that the settings name (`credential_process`).
    """
    source = ""
    try:
        resolver = session_of(os.environ).get_component("credential_provider")
        for provider in resolver.providers:
            source = provider.METHOD
            _disable_prompts(provider, start)
            credentials = provider.load()
            if credentials is not None:
                _check(credentials.get_frozen_credentials(), source)
                return credentials
    except ChainError:
        raise
    except Exception as error:  # noqa: BLE001  # a provider may raise anything
        raise _chain_error(error, source) from None
    unavailable = Reason.GATEWAY_CREDENTIALS_UNAVAILABLE
    raise ChainError(unavailable, "NoCredentials", advice=NOTHING)


def _disable_prompts(provider: Any, start: Callable[..., Any]) -> None:
    """Keep a provider from reading stdin or the terminal."""
    if hasattr(provider, "_prompter"):
        provider._prompter = _refuse  # noqa: SLF001  # botocore has no other way
    if hasattr(provider, "_popen"):
        without_input = partial(start, stdin=subprocess.DEVNULL)
        provider._popen = without_input  # noqa: SLF001  # as above
    if builder := getattr(provider, "_profile_provider_builder", None):
        builder.providers = partial(_without_prompts, builder.providers, start)


def _without_prompts(
    providers: Callable[..., list[Any]],
    start: Callable[..., Any],
    *args: Any,
    **kwargs: Any,
) -> Any:
    created = providers(*args, **kwargs)
    for provider in created:
        _disable_prompts(provider, start)
    return created


def _refuse(_prompt: str) -> str:
    raise PromptError


def _check(frozen: Any, source: str) -> None:
    """Raise ChainError for values that can't be sent in a header."""
    for value in (frozen.access_key, frozen.secret_key, frozen.token):
        if value and not HEADER_VALUE.fullmatch(value):
            raise ChainError(
                Reason.GATEWAY_CREDENTIALS_INVALID,
                "MalformedCredentials",
                source=SOURCES.get(source, ""),
                advice=f"a key or token: {MALFORMED}",
            )


def code_of(error: ClientError) -> str:
    """Return AWS's code of an error, which may be any text."""
    return str(error.response.get("Error", {}).get("Code", ""))


def _chain_error(error: Exception, source: str) -> ChainError:
    advice = next((text for kind, text in ADVICE if isinstance(error, kind)), "")
    code = code_of(error) if isinstance(error, ClientError) else ""
    return ChainError(
        Reason.GATEWAY_CREDENTIALS_UNAVAILABLE,
        code if SAFE_CODE.fullmatch(code) else type(error).__name__,
        source=SOURCES.get(source, ""),
        advice=advice,
    )
