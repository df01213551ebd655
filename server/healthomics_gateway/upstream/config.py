"""Where HealthOmics is, from AWS's own settings, as in any boto3 program."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError
from botocore.httpsession import get_cert_path

from healthomics_gateway.faults import FaultsError
from healthomics_gateway.files import FileError, read_regular
from healthomics_gateway.net.addresses import is_loopback
from healthomics_gateway.net.hosts import is_name
from healthomics_gateway.net.proxies import ProxyError, proxy_for
from healthomics_gateway.upstream.credential_chain import (
    HEADER_VALUE,
    faults_of_keys,
    read_chain,
    region_fault,
    session_of,
)
from healthomics_gateway.upstream.credentials import (
    AGENT,
    ChainIdentity,
    FixedIdentity,
    Identity,
    Report,
)
from healthomics_gateway.upstream.sigv4 import Credentials
from healthomics_gateway.upstream.sts import MAX_THREADS

UNUSABLE = (
    "AWS settings: boto3 can't use one of them; look at AWS_MAX_ATTEMPTS and"
    " AWS_DATA_PATH, and at the profile's settings"
)
SERVICE = "omics"  # boto3's name of it, and its signing name
HOST_PREFIX = "workflows-"  # before the host for GetRun, but not before an explicit one
ELSEWHERE = "elsewhere-1"  # no Region; boto3 makes up an endpoint for it all the same

# How STS is asked, off the event loop: in seconds, and signed by ourselves.
STS_CONFIG = Config(
    connect_timeout=3,
    read_timeout=5,
    retries={"mode": "standard", "total_max_attempts": 2},
    max_pool_connections=MAX_THREADS,
    proxies={},  # unless `proxy_for` finds one: boto3 has other rules
    signature_version=UNSIGNED,
    user_agent_extra=AGENT,
)

# No empty segment and none that begins with a dot: botocore would sign another path.
_PATH = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*/?")


class AwsSettingsError(FaultsError):
    """AWS's own settings don't name a place to call; `args` are the faults."""


@dataclass(frozen=True, slots=True)
class Aws:
    """Where HealthOmics and STS are, and who asks."""

    region: str
    endpoint: str  # scheme, host and path, without a slash at its end
    ca_file: str
    identity: Callable[[Report], Identity]
    sts: Callable[[], Any] | None = None  # blocks: makes boto3's client; none: no roles
    proxy: str | None = field(default=None, repr=False)  # its URL may hold a password


def discover() -> Aws:
    """Read AWS's own settings; raise AwsSettingsError with all their faults."""
    faults = []
    try:
        core = session_of(os.environ)
        named = region = core.get_config_variable("region")
        if not region:
            faults.append(
                "AWS Region: none is set; set AWS_DEFAULT_REGION or AWS_REGION"
            )
        elif fault := region_fault(region):
            faults.append(f"AWS Region: {fault}")
            region = None
        faults += faults_of_keys(os.environ)
        ca_bundle = core.get_config_variable("ca_bundle")
        if ca_bundle and (fault := _ca_fault(ca_bundle)):
            faults.append(f"AWS_CA_BUNDLE: {fault}")
        session = boto3.Session(botocore_session=core)
        region, endpoint = _endpoint(session, region or ELSEWHERE)
    except BotoCoreError as error:
        raise AwsSettingsError(*faults, f"AWS settings: {error}") from None
    except AwsSettingsError as error:
        raise AwsSettingsError(*faults, *error.args) from None
    proxy = None
    if fault := endpoint_fault(endpoint):
        faults.append(f"AWS endpoint: {fault}")
    else:
        try:
            proxy = proxy_for(endpoint)
        except ProxyError as error:
            faults += error.args
    if faults:
        raise AwsSettingsError(*faults)
    return Aws(
        region=region,
        endpoint=endpoint,
        ca_file=ca_bundle or get_cert_path(verify=True),
        identity=lambda report: ChainIdentity(report, chain=read_chain),
        sts=lambda: _sts_client(core, region=named, has_proxy=True),
        proxy=proxy,
    )


def fixed(
    *,
    region: str,
    endpoint: str,
    access_key: str,
    secret_key: str,
    sts_endpoint: str | None = None,
) -> Aws:
    """Name the places and credentials outright; nothing of the machine's is read.

    Without `sts_endpoint` no role can be assumed.
    """
    identity = FixedIdentity(Credentials(access_key, secret_key))

    def sts() -> Any:
        return _sts_client(
            _bare_session(),
            region=region,
            endpoint_url=sts_endpoint,
            has_proxy=False,
        )

    return Aws(
        region,
        endpoint,
        get_cert_path(verify=True),
        lambda _: identity,
        sts=sts if sts_endpoint else None,
    )


def endpoint_fault(endpoint: str) -> str | None:
    """Tell what is wrong with an endpoint, or None."""
    try:
        parts = urlsplit(endpoint)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or port == 0 or parts.scheme not in ("http", "https"):
        return "an URL of http or https is needed"
    if not is_name(host):
        return "the host has a label that is empty or longer than 63 bytes"
    if (
        set("@?#") & set(endpoint)  # a password, a query, a fragment; empty ones too
        or not HEADER_VALUE.fullmatch(endpoint)  # urlsplit leaves newlines out
        or not _PATH.fullmatch(parts.path)
    ):
        return "more than scheme, host, port and plain path in the URL"
    if parts.scheme == "http" and not is_loopback(host):
        return "http is for loopback hosts only; use https"
    return None


def _ca_fault(file: str) -> str | None:
    try:
        read_regular(Path(file))
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
    except FileError as fault:
        return str(fault)
    except OSError:  # an SSLError is one
        return "no certificates can be read from it"
    return None


def _endpoint(session: boto3.Session, region: str) -> tuple[str, str]:
    """Ask boto3 for the endpoint: FIPS, dual-stack and overrides are its business.

    The credentials are made up: without them the client would look for real ones.
    """

    def client(region: str) -> Any:
        return session.client(
            SERVICE,
            region_name=region,
            aws_access_key_id="unused",
            aws_secret_access_key="unused",  # noqa: S106  # it is no secret
        )

    try:
        chosen, elsewhere = client(region).meta, client(ELSEWHERE).meta
    except BotoCoreError:
        raise
    except ValueError as error:  # its text would show what may be secret
        if str(error).startswith("Invalid endpoint"):
            return region, ""
        raise AwsSettingsError(UNUSABLE) from None
    endpoint: str = chosen.endpoint_url.rstrip("/")
    if endpoint != elsewhere.endpoint_url.rstrip("/"):  # else it is an explicit one
        endpoint = endpoint.replace("://", f"://{HOST_PREFIX}", 1)
    return chosen.region_name, endpoint


def _sts_client(core: Any, *, has_proxy: bool, **place: Any) -> Any:
    """Ask boto3 for STS: the Region's own, unless an endpoint is set."""
    core.set_config_variable("sts_regional_endpoints", "regional")
    session = boto3.Session(botocore_session=core, region_name=place.pop("region"))
    client = session.client("sts", config=STS_CONFIG, **place)
    if fault := endpoint_fault(client.meta.endpoint_url):
        raise AwsSettingsError(f"AWS endpoint of STS: {fault}")
    if proxy := has_proxy and proxy_for(client.meta.endpoint_url):
        config = STS_CONFIG.merge(Config(proxies={"https": proxy}))
        client = session.client("sts", config=config, **place)
    return client


def _bare_session() -> Any:
    """Give botocore's session with its defaults, whatever is set on the machine."""
    defaults = {
        name: (None, None, each[2], each[3])
        for name, each in botocore.session.Session.SESSION_VARIABLES.items()
        if isinstance(each, tuple)
    }
    nothing = (None, None, os.devnull, None)
    files = {"config_file": nothing, "credentials_file": nothing}
    return botocore.session.Session(session_vars=defaults | files)
