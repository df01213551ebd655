"""Tests of Region, endpoints, CA file and credentials from AWS's settings."""

import asyncio
import functools
import json
import operator
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trustme
from hypothesis import example, given, settings
from hypothesis import strategies as st

from healthomics_gateway.net.hosts import NOT_A_HOST
from healthomics_gateway.upstream.config import (
    OF_ENDPOINT,
    OF_STS_ENDPOINT,
    Aws,
    fixed,
)
from healthomics_gateway.upstream.endpoints import endpoint_fault
from healthomics_gateway.upstream.sigv4 import Credentials

# Reads each case's settings as if the program had been started with them, and compares
# with the host that AWS's own client would send the request to.
PROGRAM = """
import asyncio, gc, json, os, sys
import boto3
from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.upstream.config import discover
from healthomics_gateway.upstream.credential_chain import read_chain
from healthomics_gateway.upstream.endpoints import AwsSettingsError
from healthomics_gateway.upstream.provider import ChainError

class Sent(Exception):
    pass

def stop(request, **_):
    raise Sent(request.url)

def host_that_boto3_calls():
    keys = {"aws_access_key_id": "unused", "aws_secret_access_key": "unused"}
    client = boto3.Session().client("omics", **keys)
    client.meta.events.register("before-send", stop)
    try:
        client.get_run(id="1")
    except Sent as sent:
        return sent.args[0].removesuffix("/run/1")

async def access_key(aws):
    provider = aws.provider(lambda reason: None)
    try:
        return (await provider.credentials()).access_key
    except GatewayError as error:
        return error.reason.name
    finally:
        await provider.close()

def sts(aws):
    try:
        meta = aws.sts().meta
    except AwsSettingsError as error:
        return error.args
    return meta.region_name, meta.endpoint_url

def why():
    try:
        return read_chain() and None
    except ChainError as error:
        return {"reason": error.reason.name, **error.log_fields}

def outcome(is_usual):
    if "IS_FAILING" in os.environ:
        return why()
    try:
        aws = discover()
    except AwsSettingsError as error:
        return {"faults": error.args}
    return {
        "region": aws.region,
        "endpoint": aws.endpoint,
        "ca_file": aws.ca_file,
        "sts": sts(aws) if "IS_OF_STS" in os.environ else None,
        "boto3": host_that_boto3_calls() if is_usual else None,
        "access_key": asyncio.run(access_key(aws))
        if "IS_SIGNED" in os.environ
        else None,
        "proxies": (aws.proxy, aws.sts().meta.config.proxies)
        if "IS_PROXIED" in os.environ
        else None,
    }

gc.freeze()  # for speed: what exists now is never collected
gc.disable()  # for speed: a client leaves much garbage, collected below
outcomes = {}
for name, environ in json.loads(sys.argv[1]).items():
    if len(outcomes) % 8 == 0:
        gc.collect()
    os.environ.clear()
    os.environ.update(environ)
    outcomes[name] = outcome("IS_USUAL" in environ)
json.dump(outcomes, sys.stdout)
"""

HERE = {"AWS_DEFAULT_REGION": "us-east-1"}
UNAVAILABLE = "GATEWAY_CREDENTIALS_UNAVAILABLE"
FIPS = {"AWS_USE_FIPS_ENDPOINT": "true"}
DUAL_STACK = {"AWS_USE_DUALSTACK_ENDPOINT": "true"}
NO_URL = f"{OF_ENDPOINT}: write an http or https URL"
TOO_MUCH = f"{OF_ENDPOINT}: write only scheme, host, port and a plain path"
LABEL = f"{OF_ENDPOINT}: {NOT_A_HOST}"
HTTPS = f"{OF_ENDPOINT}: http is for loopback hosts only; use https"
NO_REGION = "AWS Region: none is set; set AWS_DEFAULT_REGION or AWS_REGION"
BAD_REGION = (
    "AWS Region: it isn't the name of a Region; write letters, digits and hyphens,"
    " such as us-east-1"
)

CONFIG = """
[default]
region = eu-west-1

[profile fips]
region = us-west-2
use_fips_endpoint = true

[profile link]
region = us-west-2
endpoint_url = https://link.example/path/

[profile services]
region = us-west-2
services = ours

[services ours]
omics =
  endpoint_url = https://services.example

[profile trusting]
region = us-west-2
ca_bundle = {folder}/ca.pem
aws_access_key_id = OTHER
aws_secret_access_key = hush

[profile code]
role_arn = arn:aws:iam::123456789012:role/hush
source_profile = trusting
mfa_serial = arn:aws:iam::123456789012:mfa/hush

[profile single]
sso_start_url = https://hush.example
sso_region = us-east-1
sso_account_id = 123456789012
sso_role_name = hush

[profile program]
credential_process = {folder}/absent

[profile reader]
credential_process = cat

[profile source-is-reader]
role_arn = arn:aws:iam::123456789012:role/hush
source_profile = reader

[profile half]
aws_access_key_id = OTHER

[profile spaced]
aws_access_key_id = OTHER
aws_secret_access_key = two words
"""

# The settings; the expected Region and endpoint.
USUAL: dict[str, tuple[dict[str, str], str, str]] = {
    "region": (
        {"AWS_DEFAULT_REGION": "eu-west-2"},
        "eu-west-2",
        "https://workflows-omics.eu-west-2.amazonaws.com",
    ),
    "region-of-the-config-file": (
        {},
        "eu-west-1",
        "https://workflows-omics.eu-west-1.amazonaws.com",
    ),
    "region-newer-than-boto3": (
        {"AWS_DEFAULT_REGION": "xx-newest-7"},
        "xx-newest-7",
        "https://workflows-omics.xx-newest-7.amazonaws.com",
    ),
    "partition": (
        {"AWS_DEFAULT_REGION": "cn-north-1"},
        "cn-north-1",
        "https://workflows-omics.cn-north-1.amazonaws.com.cn",
    ),
    "fips": (
        HERE | FIPS,
        "us-east-1",
        "https://workflows-omics-fips.us-east-1.amazonaws.com",
    ),
    "dual-stack": (
        HERE | DUAL_STACK,
        "us-east-1",
        "https://workflows-omics.us-east-1.api.aws",
    ),
    "fips-and-dual-stack": (
        HERE | FIPS | DUAL_STACK,
        "us-east-1",
        "https://workflows-omics-fips.us-east-1.api.aws",
    ),
    "fips-of-a-profile": (
        {"AWS_PROFILE": "fips"},
        "us-west-2",
        "https://workflows-omics-fips.us-west-2.amazonaws.com",
    ),
    "fips-in-the-region": (
        {"AWS_DEFAULT_REGION": "fips-us-east-1"},
        "us-east-1",
        "https://workflows-omics-fips.us-east-1.amazonaws.com",
    ),
    "endpoint-that-is-ignored": (
        HERE
        | {
            "AWS_ENDPOINT_URL_OMICS": "https://elsewhere.example",
            "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
        },
        "us-east-1",
        "https://workflows-omics.us-east-1.amazonaws.com",
    ),
}
EXPLICIT: dict[str, tuple[dict[str, str], str, str]] = {
    "of-the-service": (
        HERE | {"AWS_ENDPOINT_URL_OMICS": "https://link.example"},
        "us-east-1",
        "https://link.example",
    ),
    "of-all-services": (
        HERE | {"AWS_ENDPOINT_URL": "https://all.example"},
        "us-east-1",
        "https://all.example",
    ),
    "of-the-service-first": (
        HERE
        | {
            "AWS_ENDPOINT_URL": "https://all.example",
            "AWS_ENDPOINT_URL_OMICS": "https://link.example:8443/a/b.c~d_e-f/",
        },
        "us-east-1",
        "https://link.example:8443/a/b.c~d_e-f",
    ),
    "the-usual-one-outright": (
        HERE | {"AWS_ENDPOINT_URL_OMICS": "https://omics.us-east-1.amazonaws.com"},
        "us-east-1",
        "https://omics.us-east-1.amazonaws.com",
    ),
    "of-a-profile": (
        {"AWS_PROFILE": "link"},
        "us-west-2",
        "https://link.example/path",
    ),
    "of-a-profile-s-services": (
        {"AWS_PROFILE": "services"},
        "us-west-2",
        "https://services.example",
    ),
    "loopback-with-fips": (
        HERE | FIPS | {"AWS_ENDPOINT_URL_OMICS": "http://127.0.0.1:8080"},
        "us-east-1",
        "http://127.0.0.1:8080",
    ),
}
EXPLICIT |= {
    name: (
        regions | {"AWS_ENDPOINT_URL_OMICS": "https://link.example"},
        found,
        "https://link.example",
    )
    for name, regions, found in (
        ("region-of-other-sdks", {"AWS_REGION": "eu-west-2"}, "eu-west-2"),
        ("region-of-boto3-first", HERE | {"AWS_REGION": "eu-west-2"}, "us-east-1"),
        (
            "region-before-a-profile-s",
            {"AWS_REGION": "eu-west-2", "AWS_PROFILE": "trusting"},
            "eu-west-2",
        ),
        (
            "region-that-is-empty",
            {"AWS_DEFAULT_REGION": "", "AWS_REGION": "eu-west-2"},
            "eu-west-2",
        ),
    )
}
# The settings; the expected reason, error, source and start of the advice.
FAILING: dict[str, tuple[dict[str, str], tuple[str, str, str, str]]] = {
    name: (HERE | given | {"IS_FAILING": "yes"}, (reason, *why))
    for name, given, reason, why in (
        (
            "code-of-a-person",
            {"AWS_PROFILE": "code"},
            UNAVAILABLE,
            ("PromptError", "role of a profile", "the profile has mfa_serial"),
        ),
        (
            "no-session",
            {"AWS_PROFILE": "single"},
            UNAVAILABLE,
            ("SSOTokenLoadError", "single sign-on", "there is no valid"),
        ),
        (
            "no-program",
            {"AWS_PROFILE": "program"},
            UNAVAILABLE,
            ("FileNotFoundError", "credential_process", "a file or program"),
        ),
        (
            "program-that-reads-stdin",
            {"AWS_PROFILE": "reader", "PATH": os.environ["PATH"]},
            UNAVAILABLE,
            ("JSONDecodeError", "credential_process", "its output"),
        ),
        (
            "program-of-a-source-that-reads-stdin",
            {"AWS_PROFILE": "source-is-reader", "PATH": os.environ["PATH"]},
            UNAVAILABLE,
            ("JSONDecodeError", "role of a profile", "its output"),
        ),
        (
            "no-secret",
            {"AWS_PROFILE": "half"},
            UNAVAILABLE,
            ("PartialCredentialsError", "configuration file", "an access key and"),
        ),
        (
            "no-web-identity",
            {
                "AWS_WEB_IDENTITY_TOKEN_FILE": "{folder}/hush",
                "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/hush",
            },
            UNAVAILABLE,
            ("FileNotFoundError", "web identity", "a file or program"),
        ),
        ("nothing", {}, UNAVAILABLE, ("NoCredentials", "", "no source has")),
        (
            "space-in-a-secret",
            {"AWS_PROFILE": "spaced"},
            "GATEWAY_CREDENTIALS_INVALID",
            ("MalformedCredentials", "configuration file", "a key or token"),
        ),
    )
}
MALFORMED = (
    "it contains a space, a newline or another character that isn't allowed in a header"
)
# On the stdin of the programs, which mustn't read it.
STDIN = json.dumps({"Version": 1, "AccessKeyId": "STDIN", "SecretAccessKey": "hush"})
NOWHERE = {"AWS_CONFIG_FILE": "{folder}/absent"}
# The settings; all expected faults, in this order.
FAULTY: dict[str, tuple[dict[str, str], list[str]]] = {
    "no-region": (NOWHERE, [NO_REGION]),
    "no-such-profile": (
        HERE | {"AWS_PROFILE": "absent"},
        [
            (
                "AWS settings: The config profile (absent) could not be found; correct"
                " AWS_PROFILE; `aws configure list-profiles` lists the profiles, which"
                " are read from AWS_CONFIG_FILE (~/.aws/config) and"
                " AWS_SHARED_CREDENTIALS_FILE (~/.aws/credentials)"
            )
        ],
    ),
    "no-region-s-name": (
        {"AWS_DEFAULT_REGION": "us east 1"},
        [BAD_REGION],
    ),
    "newline-after-a-region": (
        {"AWS_DEFAULT_REGION": "us-east-1\n"},
        [BAD_REGION],
    ),
    "newline-after-keys": (
        HERE
        | {
            "AWS_ACCESS_KEY_ID": "hush\n",
            "AWS_SECRET_ACCESS_KEY": " hush",
            "AWS_SESSION_TOKEN": "hush\u00e9",
        },
        [
            f"AWS_ACCESS_KEY_ID: {MALFORMED}",
            f"AWS_SECRET_ACCESS_KEY: {MALFORMED}",
            f"AWS_SESSION_TOKEN: {MALFORMED}",
        ],
    ),
    "newline-after-an-endpoint": (
        HERE | {"AWS_ENDPOINT_URL_OMICS": "https://a.example\n"},
        [NO_URL],
    ),
    "proxy-of-another-kind": (
        HERE | {"HTTPS_PROXY": "socks5://user:hush@proxy.test"},
        [
            (
                "HTTPS_PROXY or ALL_PROXY: write the URL of an HTTP proxy, such as"
                " http://proxy.example.org:3128"
            )
        ],
    ),
    "no-url": (HERE | {"AWS_ENDPOINT_URL_OMICS": "user:hush@host"}, [NO_URL]),
    "user": (HERE | {"AWS_ENDPOINT_URL": "https://a:hush@b.example"}, [TOO_MUCH]),
    "http": (HERE | {"AWS_ENDPOINT_URL_OMICS": "http://a.example"}, [HTTPS]),
    "no-ca-file": (
        HERE | {"AWS_CA_BUNDLE": "{folder}/absent"},
        ["AWS_CA_BUNDLE: no file can be read at this path"],
    ),
    "ca-file-of-something-else": (
        HERE | {"AWS_CA_BUNDLE": "{folder}/config"},
        ["AWS_CA_BUNDLE: no certificates can be read from it"],
    ),
    "all-at-once": (
        NOWHERE
        | {
            "AWS_CA_BUNDLE": "{folder}/absent",
            "AWS_ENDPOINT_URL_OMICS": "http://a.example",
        },
        [NO_REGION, "AWS_CA_BUNDLE: no file can be read at this path", HTTPS],
    ),
    "all-that-can-be-reported": (
        {"AWS_DEFAULT_REGION": "us east 1", "AWS_CA_BUNDLE": "{folder}/absent"},
        [BAD_REGION, "AWS_CA_BUNDLE: no file can be read at this path"],
    ),
}
# The settings; the expected Region and endpoint of STS.
STS: dict[str, tuple[dict[str, str], list[str]]] = {
    "sts-region": (
        {"AWS_DEFAULT_REGION": "eu-west-2"},
        ["eu-west-2", "https://sts.eu-west-2.amazonaws.com"],
    ),
    "sts-partition": (
        {"AWS_DEFAULT_REGION": "cn-north-1"},
        ["cn-north-1", "https://sts.cn-north-1.amazonaws.com.cn"],
    ),
    "sts-global": (
        HERE | {"AWS_STS_REGIONAL_ENDPOINTS": "legacy"},
        ["us-east-1", "https://sts.us-east-1.amazonaws.com"],
    ),
    "sts-fips": (
        HERE | FIPS,
        ["us-east-1", "https://sts-fips.us-east-1.amazonaws.com"],
    ),
    "sts-fips-in-the-region": (
        {"AWS_DEFAULT_REGION": "fips-us-east-1"},
        ["us-east-1", "https://sts-fips.us-east-1.amazonaws.com"],
    ),
    "sts-of-its-own": (
        HERE | {"AWS_ENDPOINT_URL_STS": "https://sts.example/link"},
        ["us-east-1", "https://sts.example/link"],
    ),
    "sts-beside-an-endpoint-of-healthomics": (
        HERE | {"AWS_ENDPOINT_URL_OMICS": "https://link.example"},
        ["us-east-1", "https://sts.us-east-1.amazonaws.com"],
    ),
    "sts-http": (
        HERE | {"AWS_ENDPOINT_URL_STS": "http://sts.example"},
        [f"{OF_STS_ENDPOINT}: http is for loopback hosts only; use https"],
    ),
}
PROXY = "http://user:hush@proxy.test:3128"
# The settings; the expected proxies of HealthOmics and of STS.
PROXIED: dict[str, tuple[dict[str, str], list[Any]]] = {
    name: (HERE | given | {"IS_PROXIED": "yes"}, found)
    for name, given, found in (
        ("proxy-of-both", {"HTTPS_PROXY": PROXY}, [PROXY, {"https": PROXY}]),
        (
            "proxy-of-sts-alone",
            {
                "https_proxy": PROXY,
                "NO_PROXY": "workflows-omics.us-east-1.amazonaws.com",
            },
            [None, {"https": PROXY}],
        ),
        (
            "proxy-of-nothing-here",
            {
                "ALL_PROXY": PROXY,
                "AWS_ENDPOINT_URL_OMICS": "http://127.0.0.1:1",
                "AWS_ENDPOINT_URL_STS": "https://127.0.0.1:2",
            },
            [None, {}],
        ),
    )
}
OTHERS = {
    "ca-file": HERE | {"AWS_CA_BUNDLE": "{folder}/ca.pem"},
    "keys": HERE | {"AWS_ACCESS_KEY_ID": "KEY", "AWS_SECRET_ACCESS_KEY": "hush"},
    "trusting": {"AWS_PROFILE": "trusting"},
}


def outcome_of(name: str) -> Any:
    """Return the outcome of one case."""
    ended = programs()
    for program in ended:
        assert ("", 0) == (program.stderr, program.returncode)
    outcomes = [json.loads(each.stdout.splitlines()[-1]) for each in ended]
    return functools.reduce(operator.or_, outcomes)[name]


@functools.cache
def programs() -> list[subprocess.CompletedProcess[str]]:
    """Run all cases in two programs."""
    usual = {name: case | {"IS_USUAL": "yes"} for name, (case, *_) in USUAL.items()}
    of_sts = {name: case | {"IS_OF_STS": "yes"} for name, (case, _) in STS.items()}
    signed = {name: case | {"IS_SIGNED": "yes"} for name, case in OTHERS.items()}
    others = {
        name: case
        for name, (case, *_) in (EXPLICIT | FAULTY | PROXIED | FAILING).items()
    }
    return programs_of(usual | of_sts | signed | others, count=2)


def programs_of(
    cases: dict[str, dict[str, str]], *, count: int
) -> list[subprocess.CompletedProcess[str]]:
    """Run cases in a number of programs, in a home directory with AWS's settings."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor() as pool:
        (Path(folder) / "config").write_text(CONFIG.format(folder=folder))
        trustme.CA().cert_pem.write_to_path(Path(folder) / "ca.pem")
        always = {
            "HOME": folder,
            "AWS_CONFIG_FILE": f"{folder}/config",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        environs = [
            (name, {key: value.format(folder=folder) for key, value in case.items()})
            for name, case in ((name, always | case) for name, case in cases.items())
        ]
        return list(
            pool.map(run, [dict(environs[part::count]) for part in range(count)])
        )


def run(environs: dict[str, dict[str, str]]) -> subprocess.CompletedProcess[str]:
    """Run the program on some cases, in an otherwise empty environment."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(environs)],
        capture_output=True,
        text=True,
        input=STDIN,
        env={"PYTHONPATH": os.pathsep.join(sys.path)},  # the code under test
        check=False,
    )


@pytest.mark.parametrize("name", PROXIED)
def test_healthomics_and_sts_use_the_same_proxy_settings(name: str) -> None:
    """Both use the proxy of the usual variables, or none."""
    assert PROXIED[name][1] == outcome_of(name)["proxies"]


@pytest.mark.parametrize("name", FAILING)
def test_failed_source_is_named_with_advice(name: str) -> None:
    """The error has source and advice but no secret, and no provider reads stdin."""
    _, (reason, error, source, advice) = FAILING[name]
    known = outcome_of(name)

    assert (reason, error, source) == (
        known["reason"],
        known["error"],
        known.get("source", ""),
    )
    assert known["advice"].startswith(advice)
    assert "hush" not in str(known)


@pytest.mark.parametrize("name", USUAL)
def test_default_endpoint_is_the_host_that_boto3_calls(name: str) -> None:
    """The host has the prefix of GetRun, and depends on Region, FIPS and dual-stack."""
    _, region, endpoint = USUAL[name]
    outcome = outcome_of(name)

    assert (region, endpoint) == (outcome["region"], outcome["endpoint"])
    assert endpoint == outcome["boto3"]


@pytest.mark.parametrize("name", EXPLICIT)
def test_explicit_endpoint_is_used_unchanged(name: str) -> None:
    """An endpoint that is set explicitly gets no prefix."""
    _, region, endpoint = EXPLICIT[name]
    outcome = outcome_of(name)

    assert (region, endpoint) == (outcome["region"], outcome["endpoint"])


@pytest.mark.parametrize("name", STS)
def test_sts_endpoint_is_regional_unless_one_is_set(name: str) -> None:
    """FIPS, partitions and overrides apply to STS too, which needs https."""
    assert STS[name][1] == outcome_of(name)["sts"]


@pytest.mark.parametrize("name", FAULTY)
def test_faults_of_the_settings_are_all_reported(name: str) -> None:
    """Unusable settings raise an error with all faults and without secrets."""
    faults = outcome_of(name)["faults"]

    assert FAULTY[name][1] == faults
    assert "hush" not in "".join(faults)


def test_ca_file_is_boto3_s_own_unless_another_is_set() -> None:
    """`AWS_CA_BUNDLE` or a profile's `ca_bundle` replaces boto3's own CA file."""
    assert outcome_of("region")["ca_file"].endswith(".pem")
    assert Path(outcome_of("region")["ca_file"]).is_file()
    assert outcome_of("ca-file")["ca_file"].endswith("/ca.pem")
    assert outcome_of("trusting")["ca_file"].endswith("/ca.pem")


def test_credentials_are_those_of_the_chain() -> None:
    """The keys of the environment are used, then those of the profile."""
    missing = "GATEWAY_CREDENTIALS_UNAVAILABLE"
    assert missing == outcome_of("ca-file")["access_key"]
    assert "KEY" == outcome_of("keys")["access_key"]
    assert "OTHER" == outcome_of("trusting")["access_key"]


def test_fixed_reads_no_settings() -> None:
    """`fixed` returns its arguments unchanged, without a prefix."""
    aws = fixed(
        region="us-east-1",
        endpoint="http://127.0.0.1:1",
        access_key="KEY",
        secret_key="hush",
    )
    credentials = asyncio.run(aws.provider(lambda _: None).credentials())

    assert Aws("us-east-1", "http://127.0.0.1:1", aws.ca_file, aws.provider) == aws
    assert Path(aws.ca_file).is_file()
    assert Credentials("KEY", "hush") == credentials
    assert aws.sts is None


def test_fixed_sts_reads_no_settings() -> None:
    """The client of STS uses the given endpoint, even if AWS's settings are invalid."""
    program = """
from healthomics_gateway.upstream.config import fixed
keys = {"access_key": "KEY", "secret_key": "hush"}
at = "http://127.0.0.1:1"
aws = fixed(region="us-east-1", endpoint=at, sts_endpoint=f"{at}/sts", **keys)
meta = aws.sts().meta
config = meta.config
print(meta.endpoint_url, meta.region_name, config.proxies, config.user_agent_extra)
"""
    environ = {
        "AWS_PROFILE": "absent",
        "AWS_CONFIG_FILE": "/absent",
        "AWS_CA_BUNDLE": "/absent",
        "AWS_ENDPOINT_URL_STS": "https://elsewhere.example",
        "AWS_MAX_ATTEMPTS": "many",
        "HTTPS_PROXY": "http://proxy.example",
        "HTTP_PROXY": "http://proxy.example",
        **FIPS,
        **DUAL_STACK,
    }
    process = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env=environ,
        check=False,
    )

    agent = f"healthomics-gateway/{version('healthomics-gateway')}"
    assert "" == process.stderr
    assert f"http://127.0.0.1:1/sts us-east-1 {{}} {agent}\n" == process.stdout


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://a.example",
        "https://a.example:8443",
        "https://a.example/a/b",
        "HTTPS://A.example",
        "https://192.0.2.1",
        "https://[2001:db8::1]:443",
        "http://127.0.0.1",
        "http://127.255.255.254:80",
        "http://[::1]:8080",
        "http://localhost",
        "http://LOCALHOST:1",
    ],
)
def test_valid_endpoint_has_no_fault(endpoint: str) -> None:
    """An https URL is valid, and an http URL of a loopback host."""
    assert endpoint_fault(endpoint) is None


@pytest.mark.parametrize(
    ("endpoint", "fault"),
    [
        ("", NO_URL),
        ("a.example", NO_URL),
        ("//a.example", NO_URL),
        ("https://", NO_URL),
        ("https:///path", NO_URL),
        ("https://:443", NO_URL),
        ("ftp://a.example", NO_URL),
        ("file:///etc/passwd", NO_URL),
        ("https://a.example:0", NO_URL),
        ("https://a.example:65536", NO_URL),
        ("https://a.example:https", NO_URL),
        ("https://[::1", NO_URL),
        ("https://user@a.example", TOO_MUCH),
        ("https://user:hush@a.example", TOO_MUCH),
        ("https://:hush@a.example", TOO_MUCH),
        ("https://@a.example", TOO_MUCH),
        ("https://a.example?", TOO_MUCH),
        ("https://a.example/?a=b", TOO_MUCH),
        ("https://a.example#", TOO_MUCH),
        ("https://a.example/#a", TOO_MUCH),
        ("https://a.example/a b", TOO_MUCH),
        ("https://a.example/%2e", TOO_MUCH),
        ("http://a.example", HTTPS),
        (f"https://{'a' * 64}.example", LABEL),
        ("https://a..example", LABEL),
        ("http://127.0.0.1.a.example", HTTPS),
        ("http://localhost.a.example", HTTPS),
        ("http://128.0.0.1", HTTPS),
        ("http://0.0.0.0", HTTPS),
        ("http://[::]", HTTPS),
        ("http://[2001:db8::1]", HTTPS),
    ],
)
def test_invalid_endpoint_has_a_fault(endpoint: str, fault: str) -> None:
    """Each kind of invalid endpoint has its own message."""
    assert fault == f"{OF_ENDPOINT}: {endpoint_fault(endpoint)}"


WORDS = ["http", "https", "://", "a.example", "127.0.0.1", "localhost", ":80", "/", "@"]


@given(
    st.text(max_size=40)
    | st.lists(st.sampled_from([*WORDS, "?", "#", "[", "::1", "]"]), max_size=8).map(
        "".join
    )
)
@example("http://a.example\\@127.0.0.1")
@settings(max_examples=300, deadline=None)
def test_any_endpoint_is_valid_or_has_a_known_fault(endpoint: str) -> None:
    """Any text has a known fault, or is https, or http to a loopback host."""
    fault = endpoint_fault(endpoint)
    if fault is not None:
        assert f"{OF_ENDPOINT}: {fault}" in {
            NO_URL,
            TOO_MUCH,
            HTTPS,
        }
        return
    parts = urlsplit(endpoint)
    assert parts.netloc
    assert "@" not in endpoint
    assert "https" == parts.scheme or parts.hostname in {
        "localhost",
        "127.0.0.1",
        "::1",
    }
