"""Region, endpoints and credentials from AWS's settings, as in any boto3 program."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import botocore.session
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ProfileNotFound
from botocore.httpsession import get_cert_path

from healthomics_gateway.configuration_error import ConfigurationError
from healthomics_gateway.files import FileError, read_regular
from healthomics_gateway.net.proxies import proxy_for
from healthomics_gateway.upstream.credential_chain import (
    PROFILES,
    faults_of_keys,
    read_chain,
    region_fault,
    session_of,
)
from healthomics_gateway.upstream.credentials import ChainProvider
from healthomics_gateway.upstream.endpoints import (
    ELSEWHERE,
    AwsSettingsError,
    endpoint_fault,
    endpoint_of,
)
from healthomics_gateway.upstream.provider import (
    AGENT,
    CredentialsProvider,
    FixedCredentials,
    Report,
)
from healthomics_gateway.upstream.sigv4 import Credentials
from healthomics_gateway.upstream.sts import MAX_THREADS

# The endpoints, with the variables that set them.
OF_ENDPOINT = "AWS endpoint (AWS_ENDPOINT_URL_OMICS, AWS_ENDPOINT_URL)"
NO_REGION = "none is set; set AWS_DEFAULT_REGION or AWS_REGION"
OF_STS_ENDPOINT = "AWS endpoint of STS (AWS_ENDPOINT_URL_STS, AWS_ENDPOINT_URL)"
# Of boto3's client for STS, which the gateway signs for. The times are in seconds.
STS_CONFIG = Config(
    connect_timeout=3,
    read_timeout=5,
    retries={"mode": "standard", "total_max_attempts": 2},
    max_pool_connections=MAX_THREADS,
    proxies={},  # as boto3's rules for proxies differ from those of `proxy_for`
    signature_version=UNSIGNED,
    user_agent_extra=AGENT,
)


@dataclass(frozen=True, slots=True)
class Aws:
    """The Region, the endpoints and the credentials of requests to AWS."""

    region: str
    endpoint: str  # scheme, host and path, without a slash at its end
    ca_file: str
    provider: Callable[[Report], CredentialsProvider]
    sts: Callable[[], Any] | None = None  # creates boto3's client, and blocks
    proxy: str | None = field(default=None, repr=False)  # its URL may hold a password


def discover() -> Aws:
    """Return what AWS's own settings say, or raise AwsSettingsError with all faults."""
    faults: list[str] = []  # those before an exception are kept, as is what is known
    known: dict[str, str] = {}
    try:
        aws = _read(faults, known)
    except ProfileNotFound as error:
        faults.append(f"AWS settings: {error}; {PROFILES}")
    except BotoCoreError as error:
        faults.append(f"AWS settings: {error}")
    except ConfigurationError as error:
        faults += error.args
    if faults:
        raise AwsSettingsError(*faults, known=known)
    return aws


def _read(faults: list[str], known: dict[str, str]) -> Aws:
    """Return the settings; append faults, and keep the valid ones in `known`."""
    core = session_of(os.environ)
    named, ca_bundle = map(core.get_config_variable, ("region", "ca_bundle"))
    if fault := region_fault(named) if named else NO_REGION:
        faults.append(f"AWS Region: {fault}")
        named = ELSEWHERE
    else:
        known["region"] = named
    faults += faults_of_keys(os.environ)
    ca_file = ca_bundle or get_cert_path(verify=True)
    if fault := _ca_fault(ca_bundle) if ca_bundle else None:
        faults.append(f"AWS_CA_BUNDLE: {fault}")
    else:
        known["ca_file"] = ca_file
    session = boto3.Session(botocore_session=core)
    region, endpoint = endpoint_of(session, named)
    if fault := endpoint_fault(endpoint):
        raise AwsSettingsError(f"{OF_ENDPOINT}: {fault}")
    known["endpoint"] = "" if ELSEWHERE in endpoint else endpoint
    return Aws(
        region=region,
        endpoint=endpoint,
        ca_file=ca_file,
        provider=lambda report: ChainProvider(report, chain=read_chain),
        sts=lambda: _sts_client(core, region=named, has_proxy=True),
        proxy=proxy_for(endpoint),
    )


def fixed(
    *,
    region: str,
    endpoint: str,
    access_key: str,
    secret_key: str,
    sts_endpoint: str | None = None,
) -> Aws:
    """Return these values, without reading any setting of the machine.

    Without `sts_endpoint` no role can be assumed.
    """
    provider = FixedCredentials(Credentials(access_key, secret_key))

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
        lambda _: provider,
        sts=sts if sts_endpoint else None,
    )


def _ca_fault(file: str) -> str | None:
    try:
        read_regular(Path(file))
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
    except FileError as fault:
        return str(fault)
    except OSError:  # an SSLError is one
        return "no certificates can be read from it"
    return None


def _sts_client(core: Any, *, has_proxy: bool, **options: Any) -> Any:
    """Return boto3's client for the Region's STS, or for the endpoint that is set."""
    core.set_config_variable("sts_regional_endpoints", "regional")
    session = boto3.Session(botocore_session=core, region_name=options.pop("region"))
    client = session.client("sts", config=STS_CONFIG, **options)
    if fault := endpoint_fault(client.meta.endpoint_url):
        raise AwsSettingsError(f"{OF_STS_ENDPOINT}: {fault}")
    if proxy := has_proxy and proxy_for(client.meta.endpoint_url):
        config = STS_CONFIG.merge(Config(proxies={"https": proxy}))
        client = session.client("sts", config=config, **options)
    return client


def _bare_session() -> Any:
    """Return botocore's session with its defaults, whatever is set on the machine."""
    defaults = {
        name: (None, None, each[2], each[3])
        for name, each in botocore.session.Session.SESSION_VARIABLES.items()
        if isinstance(each, tuple)
    }
    nothing = (None, None, os.devnull, None)
    files = {"config_file": nothing, "credentials_file": nothing}
    return botocore.session.Session(session_vars=defaults | files)
