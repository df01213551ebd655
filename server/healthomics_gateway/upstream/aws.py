"""Where HealthOmics is, from AWS's own settings, as in any boto3 program."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError
from botocore.httpsession import get_cert_path

from healthomics_gateway.upstream.identity import (
    ChainIdentity,
    FixedIdentity,
    Identity,
    Report,
)
from healthomics_gateway.upstream.sigv4 import Credentials

SERVICE = "omics"  # boto3's name of it, and its signing name
HOST_PREFIX = "workflows-"  # before the host for GetRun, but not before an explicit one

_PATH = re.compile(r"[A-Za-z0-9/._~-]*")


class AwsSettingsError(Exception):
    """AWS's own settings don't name a place to call; `args` are the faults."""


@dataclass(frozen=True, slots=True)
class Aws:
    """Where HealthOmics is, and who asks it."""

    region: str
    endpoint: str  # scheme, host and path, without a slash at its end
    ca_file: str
    identity: Callable[[Report], Identity]


def discover() -> Aws:
    """Read AWS's own settings; raise AwsSettingsError with all their faults."""
    try:
        core = botocore.session.Session()
        region = core.get_config_variable("region")
        if not region:
            raise AwsSettingsError("AWS Region: none is set; set AWS_DEFAULT_REGION")
        region, endpoint = _endpoint(boto3.Session(botocore_session=core), region)
        ca_bundle = core.get_config_variable("ca_bundle")
    except (BotoCoreError, ValueError) as error:
        raise AwsSettingsError(f"AWS settings: {error}") from None
    faults = []
    if fault := endpoint_fault(endpoint):
        faults.append(f"AWS endpoint: {fault}")
    if ca_bundle and not Path(ca_bundle).is_file():
        faults.append("AWS_CA_BUNDLE: there is no such file")
    if faults:
        raise AwsSettingsError(*faults)
    return Aws(
        region=region,
        endpoint=endpoint,
        ca_file=ca_bundle or get_cert_path(verify=True),
        identity=lambda report: ChainIdentity(report, chain=_chain),
    )


def fixed(*, region: str, endpoint: str, access_key: str, secret_key: str) -> Aws:
    """Name a place and credentials outright; nothing of the machine's is read."""
    identity = FixedIdentity(Credentials(access_key, secret_key))
    return Aws(region, endpoint, get_cert_path(verify=True), lambda _: identity)


def endpoint_fault(endpoint: str) -> str | None:
    """Tell what is wrong with an endpoint, or None."""
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "an URL of http or https is needed"
    if (
        parts.username
        or parts.query
        or parts.fragment
        or not _PATH.fullmatch(parts.path)
    ):
        return "more than scheme, host, port and plain path in the URL"
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        return "http is for loopback hosts only; use https"
    return None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _endpoint(session: boto3.Session, region: str) -> tuple[str, str]:
    """Ask boto3 for the endpoint: FIPS, dual-stack and overrides are its business.

    The credentials are made up: without them the client would look for real ones.
    """

    def client(*, ignore_overrides: bool) -> Any:
        config = Config(ignore_configured_endpoint_urls=ignore_overrides)
        return session.client(
            SERVICE,
            region_name=region,
            aws_access_key_id="unused",
            aws_secret_access_key="unused",  # noqa: S106  # it is no secret
            config=config,
        )

    usual = client(ignore_overrides=True).meta
    chosen = client(ignore_overrides=False).meta
    endpoint = chosen.endpoint_url.rstrip("/")
    if endpoint == usual.endpoint_url.rstrip("/"):
        endpoint = endpoint.replace("://", f"://{HOST_PREFIX}", 1)
    return chosen.region_name, endpoint


def _chain() -> Any:
    return boto3.Session().get_credentials()
