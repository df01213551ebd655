"""The endpoint of HealthOmics, as boto3 derives it, and the check of an endpoint."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.exceptions import BotoCoreError

from healthomics_gateway.configuration_error import ConfigurationError
from healthomics_gateway.net.addresses import is_loopback
from healthomics_gateway.net.hosts import NOT_A_HOST, is_host
from healthomics_gateway.upstream.credential_chain import HEADER_VALUE

UNUSABLE = (
    "AWS settings: boto3 can't use one of them; look at AWS_MAX_ATTEMPTS and"
    " AWS_DATA_PATH, and at the profile's settings"
)
SERVICE = "omics"  # boto3's name of HealthOmics, and its signing name
HOST_PREFIX = "workflows-"  # of GetRun's host, unless the endpoint is set explicitly
ELSEWHERE = "elsewhere-1"  # not a Region; boto3 has an endpoint for it all the same

# No segment is empty or begins with a dot, as botocore would sign another path.
_PATH = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*/?")


class AwsSettingsError(ConfigurationError):
    """AWS's own settings name no usable endpoint; `args` are the faults."""

    def __init__(self, *faults: str, known: Mapping[str, str] | None = None) -> None:
        """Create an error; `known` has the valid ones of region, endpoint, ca_file.

        The endpoint is empty if only the Region is missing for it.
        """
        super().__init__(*faults)
        self.known = known or {}


def endpoint_fault(endpoint: str) -> str | None:
    """Return what is wrong with the URL of an endpoint, or None."""
    try:
        parts = urlsplit(endpoint)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or port == 0 or parts.scheme not in ("http", "https"):
        return "write an http or https URL"
    if not is_host(host):
        return NOT_A_HOST
    if (
        set("@?#") & set(endpoint)  # a password, a query, a fragment; empty ones too
        or not HEADER_VALUE.fullmatch(endpoint)  # urlsplit drops newlines
        or not _PATH.fullmatch(parts.path)
    ):
        return "write only scheme, host, port and a plain path"
    if parts.scheme == "http" and not is_loopback(host):
        return "http is for loopback hosts only; use https"
    return None


def endpoint_of(session: boto3.Session, region: str) -> tuple[str, str]:
    """Return the Region and the endpoint as boto3 derives them, or an empty endpoint.

    boto3 handles FIPS, dual-stack and overrides. It gets made-up credentials, as it
    would look for real ones otherwise.
    """

    def client(region: str) -> Any:
        return session.client(
            SERVICE,
            region_name=region,
            aws_access_key_id="unused",
            aws_secret_access_key="unused",  # noqa: S106  # not a secret
        )

    try:
        chosen, elsewhere = client(region).meta, client(ELSEWHERE).meta
    except BotoCoreError:
        raise
    except ValueError as error:  # its text may hold a secret
        if str(error).startswith("Invalid endpoint"):
            return region, ""
        raise AwsSettingsError(UNUSABLE) from None
    endpoint: str = chosen.endpoint_url.rstrip("/")
    if endpoint != elsewhere.endpoint_url.rstrip("/"):  # otherwise it is set explicitly
        endpoint = endpoint.replace("://", f"://{HOST_PREFIX}", 1)
    return chosen.region_name, endpoint
