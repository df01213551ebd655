"""The command `check`, in a process of its own: the step at fault fails, with advice.

Each test changes one thing in a set-up that passes.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import select
import signal
import socket
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
import trustme

from healthomics_gateway.check.steps import STEPS
from healthomics_gateway.sandbox import Sandbox, environment
from healthomics_gateway.settings.schema import Settings
from healthomics_gateway.settings.sources import leaves
from healthomics_gateway.upstream.sts import session_name
from testkit.authorities import HOST, expired, key_of, tls_settings
from testkit.authorities import written as files_in
from testkit.builders import aws_at, gateway, http
from testkit.checking import BASE, SECONDS, check, healthy, run, written
from testkit.gateway_process import PROGRAM
from testkit.issuer import KeyServer, Signer
from testkit.lying_upstream import HANG, LyingUpstream, Request
from testkit.sts_server import FakeSts, refusing
from testkit.upstream_certificates import Certified

RUN = "1000003"  # of the sandbox
DENIED, MISSING = "9000403", "9000404"
ROLE = "arn:aws:iam::123456789012:role/reader"
NAME = "gateway.example.org"

Environ = dict[str, str]
SetUp = tuple[Environ, FakeSts]


@pytest.fixture
async def set_up() -> AsyncIterator[SetUp]:
    """Return the environment with which a check passes, and its STS."""
    async with healthy() as given:
        yield given


def jwt_settings(**more: str) -> Environ:
    """Return the variables of a gateway that verifies tokens."""
    settings = {"ISSUER": "https://issuer.test", "AUDIENCE": "gateway", **more}
    return {f"GATEWAY_JWT__{name}": value for name, value in settings.items()}


# Set-ups that pass


async def test_check_passes_against_a_sandbox() -> None:
    """With the variables that `sandbox` prints no step fails."""
    async with Sandbox() as sandbox:
        code, out, err = await run(BASE | environment(sandbox), "check", RUN)
    lines = out.splitlines()

    assert 0 == code
    assert [each.title for each in STEPS] == [line[9:24].strip() for line in lines[:-1]]
    assert {"ok", "skipped"} == {line.split()[0] for line in lines[:-1]}
    assert f"{RUN} is RUNNING, read by the gateway's own identity" in out
    assert "arn:aws:iam::123456789012:user/sandbox in account 123456789012" in out
    assert "No steps have failed." == lines[-1]
    assert '"log_checked"' in err


async def test_check_of_all_features_passes(tmp_path: Path, set_up: SetUp) -> None:
    """A role, a certificate and an issuer are checked and found in order."""
    environ, sts = set_up
    certificate = trustme.CA().issue_cert(NAME)
    toml = f'[[callers]]\nidentity = "team/*"\naws_role = "{ROLE}"\n'
    async with KeyServer(Signer("a")) as issuer:
        checked = await check(
            environ | tls_settings(certificate, tmp_path),
            *("--config", written(tmp_path, toml)),
            **jwt_settings(JWKS_URL=issuer.url),
            OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:4318",
        )

    skipped = ["run", "shared"]
    assert (0, [], skipped) == (checked.code, checked.failed, checked.named("skipped"))
    assert "healthomics-gateway check RUN_ID" in checked.said("run")
    assert "arn in account 123456789012" == checked.said("identity")
    assert "1 role can be assumed" == checked.said("roles")
    assert [session_name("team/check")] == [each.name for each in sts.assumed]
    assert f"{NAME} until 3000-01-01T00:00:00Z" == checked.said("certificates")
    assert "1 key for ES256, RS256" == checked.said("jwks")
    assert "source: environment" in checked.said("credentials")


async def test_check_beside_a_running_gateway_skips_the_addresses(
    set_up: SetUp,
) -> None:
    """A gateway that serves at the addresses is known by its admin page."""
    environ, _ = set_up
    async with gateway(aws_at(environ["AWS_ENDPOINT_URL_OMICS"])) as served:
        addresses = {
            "GATEWAY_LISTEN": str(served.address),
            "GATEWAY_ADMIN_LISTEN": str(served.admin_address),
        }
        checked = await check(environ | addresses)

    assert (0, []) == (checked.code, checked.failed)
    assert f"a gateway is running here: {served.admin_address}" in checked.said(
        "addresses"
    )


async def test_check_that_is_interrupted_ends_silently(set_up: SetUp) -> None:
    """Ctrl-C ends a step that waits, without a traceback."""
    environ, _ = set_up
    asked = asyncio.Event()

    def hang(_request: Request) -> tuple[str]:
        asked.set()
        return (HANG,)

    async with LyingUpstream() as lying:
        lying.lie("", hang)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *PROGRAM, "check"),
            env=environ | {"AWS_ENDPOINT_URL_OMICS": lying.url},
            stdout=PIPE,
            stderr=PIPE,
        )
        async with asyncio.timeout(SECONDS):
            await asked.wait()
            process.send_signal(signal.SIGINT)
            _, err = await process.communicate()

    assert (1, b"") == (process.returncode, err)


# Broken set-ups: settings and identity


async def test_check_without_a_region(set_up: SetUp) -> None:
    """The step of AWS's settings says which variable to set; the others still run."""
    environ, _ = set_up
    checked = await check(environ, AWS_DEFAULT_REGION="")

    assert (1, ["aws"]) == (checked.code, checked.failed)
    assert "set AWS_DEFAULT_REGION or AWS_REGION" in checked.said("aws")
    assert "needs AWS settings" == checked.said("endpoint")
    assert {"settings", "credentials", "addresses", "log"} == set(checked.named("ok"))


async def test_check_of_faulty_settings(tmp_path: Path, set_up: SetUp) -> None:
    """Each fault is reported, and the other steps use the defaults."""
    environ, _ = set_up
    file = written(tmp_path, 'drain_time = "soon"\nlisen = "a:1"\n')
    checked = await check(environ, "--config", file)

    assert (1, ["settings"]) == (checked.code, checked.failed)
    assert "did you mean listen?" in checked.said("settings")
    assert "write a duration" in checked.said("settings")


async def test_check_of_a_missing_file(tmp_path: Path, set_up: SetUp) -> None:
    """Without its file no setting is known, so the steps that need one are skipped."""
    environ, _ = set_up
    checked = await check(environ, "--config", str(tmp_path / "none.toml"))

    assert (1, ["settings"]) == (checked.code, checked.failed)
    assert "No such file" in checked.said("settings")
    assert "needs settings" == checked.said("addresses")
    assert {"aws", "credentials", "log"} == set(checked.named("ok"))


async def test_check_without_credentials(set_up: SetUp) -> None:
    """The step of the credentials says where they can come from."""
    environ, _ = set_up
    checked = await check(environ, RUN, AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="")

    assert (1, ["credentials"]) == (checked.code, checked.failed)
    assert "set AWS_ACCESS_KEY_ID and" in checked.said("credentials")
    assert "needs credentials, identity" == checked.said("run")
    assert {"endpoint", "clock"} < set(checked.named("ok"))


async def test_check_of_expired_credentials() -> None:
    """STS refuses an old session, and the advice is to renew it."""
    async with healthy(own_token="new") as (environ, _):
        checked = await check(environ, RUN, AWS_SESSION_TOKEN="old")

    assert (1, ["identity"]) == (checked.code, checked.failed)
    assert "have expired; renew them" in checked.said("identity")
    assert "needs identity" == checked.said("run")


async def test_check_of_credentials_with_a_past_expiry(set_up: SetUp) -> None:
    """An expiry that the source itself names has passed."""
    environ, _ = set_up
    checked = await check(environ, AWS_CREDENTIAL_EXPIRATION="2020-01-01T00:00:00Z")

    assert (1, ["credentials"]) == (checked.code, checked.failed)
    assert "expired" in checked.said("credentials")


async def test_check_of_a_wrong_secret(set_up: SetUp) -> None:
    """STS rejects the signature, and the advice names the secret."""
    environ, _ = set_up
    checked = await check(environ, AWS_SECRET_ACCESS_KEY="wrong")

    assert (1, ["identity"]) == (checked.code, checked.failed)
    assert "correct the secret access key" in checked.said("identity")


async def test_check_with_an_unreachable_sts(tmp_path: Path, set_up: SetUp) -> None:
    """STS is needed only for a rule that has a role, and to share answers."""
    environ, _ = set_up
    nowhere = "http://127.0.0.1:1"
    toml = '[tls]\nclient_auth = "none"\n[[callers]]\nidentity = "anonymous"\n'
    unneeded = await check(environ, RUN, AWS_ENDPOINT_URL_STS=nowhere)
    file = written(tmp_path, f'{toml}aws_role = "{ROLE}"\n')
    needed = await check(environ, "--config", file, AWS_ENDPOINT_URL_STS=nowhere)
    store = {"GATEWAY_SHARED__URL": "redis://127.0.0.1:1"}
    shared = await check(
        environ | store,
        AWS_ENDPOINT_URL_STS=nowhere,
        GATEWAY_SHARED__SECRET="s" * 32,
    )

    assert (0, []) == (unneeded.code, unneeded.failed)
    assert "STS can't be reached" in unneeded.said("identity")
    assert (1, ["identity", "roles"]) == (needed.code, needed.failed)
    assert "create a VPC endpoint for STS" in needed.said("identity")
    assert (1, ["identity", "shared"]) == (shared.code, shared.failed)


async def test_check_of_a_role_that_can_not_be_assumed(
    tmp_path: Path, set_up: SetUp
) -> None:
    """The rule is named, and the policies that have to allow it."""
    environ, sts = set_up
    sts.refuse(ROLE, refusing("AccessDenied"))
    toml = f'[[callers]]\nidentity = "anonymous"\naws_role = "{ROLE}"\n'
    checked = await check(environ, "--config", written(tmp_path, toml))

    assert (1, ["roles"]) == (checked.code, checked.failed)
    assert f"callers[0].aws_role {ROLE}: STS denies it" in checked.said("roles")
    assert "sts:SetSourceIdentity" in checked.said("roles")


async def test_check_leaves_no_program_behind(tmp_path: Path, set_up: SetUp) -> None:
    """A program that doesn't return credentials is ended with the check."""
    environ, _ = set_up
    started = tmp_path / "started"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\necho $$ > {started}\nexec sleep 600\n")
    program.chmod(0o700)
    file = tmp_path / "config"
    file.write_text(f"[default]\ncredential_process = {program}\n")
    checked = await check(
        environ,
        AWS_CONFIG_FILE=str(file),
        AWS_ACCESS_KEY_ID="",
        AWS_SECRET_ACCESS_KEY="",
    )

    assert (1, ["credentials"]) == (checked.code, checked.failed)
    assert "doesn't answer" in checked.said("credentials")
    assert ends(int(started.read_text()))


def ends(process: int) -> bool:
    """Return whether a process ends now, or has ended."""
    try:
        number = os.pidfd_open(process)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([number], [], [], 2)[0])
    finally:
        os.close(number)


# With faults, and without; {port} is that of a server of keys.
SECRETS = {
    "refused": {
        "GATEWAY_JWT__JWKS_URL": "http://me:canary@127.0.0.1:{port}/k?key=canary",
        "AWS_ENDPOINT_URL_OMICS": "https://me:canary@omics.invalid/?key=canary",
        "HTTPS_PROXY": "socks5://me:canary@proxy.invalid",
        "AWS_CA_BUNDLE": "canary",
        "AWS_SECRET_ACCESS_KEY": "canary\n",
        "AWS_SESSION_TOKEN": "canary canary",
        "AWS_ENDPOINT_URL_STS": "http://me:canary@sts.invalid/?key=canary",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "canary://me:canary@otel.invalid",
        **{
            f"GATEWAY_{name.replace('.', '__').upper()}": "canary"
            for name, _ in leaves(Settings())
            if name.endswith("_file")
        },
    },
    "used": {
        "GATEWAY_SHARED__URL": "redis://me:canary@127.0.0.1:{port}?password=canary",
        "GATEWAY_SHARED__SECRET": "canary-canary-canary-canary-canary",
        "GATEWAY_JWT__JWKS_URL": "https://127.0.0.1:{port}/k?key=canary",
        "AWS_ENDPOINT_URL_OMICS": "https://omics.invalid",
        "HTTPS_PROXY": "http://me:canary@127.0.0.1:{port}",
        "AWS_SECRET_ACCESS_KEY": "canary",
        "AWS_SESSION_TOKEN": "canary",
        "AWS_ENDPOINT_URL_STS": "http://me:canary@sts.invalid/?key=canary",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://me:canary@127.0.0.1:1/?key=canary",
    },
}


@pytest.mark.parametrize("command", ["check", "check --json", "settings"])
@pytest.mark.parametrize("case", SECRETS)
async def test_no_secret_is_printed(case: str, command: str, set_up: SetUp) -> None:
    """Neither is a fault's value quoted, nor are the secrets of a URL shown."""
    environ, _ = set_up
    async with KeyServer(Signer("a")) as server:
        port = server.url.rpartition(":")[2].partition("/")[0]
        chosen = jwt_settings() | SECRETS[case]
        given = {name: value.replace("{port}", port) for name, value in chosen.items()}
        _, out, err = await run(environ | given, *command.split())

    assert "jwks_url" in out + err
    assert "canary" not in out + err


async def test_check_of_a_low_limit_on_files(set_up: SetUp) -> None:
    """The limit is a fault of the settings, as it depends on one."""
    environ, _ = set_up
    checked = await check(environ, "--config", os.devnull, files=150)

    assert (1, ["settings"]) == (checked.code, checked.failed)
    assert "limit on open files 150: at least 176 are needed" in checked.said(
        "settings"
    )


# Broken set-ups: HealthOmics


@pytest.mark.parametrize(
    ("url", "words"),
    [
        pytest.param("https://omics.invalid", "doesn't resolve", id="name"),
        pytest.param("http://127.0.0.1:1", "Connection refused", id="port"),
    ],
)
async def test_check_of_an_unreachable_endpoint(
    url: str, words: str, set_up: SetUp
) -> None:
    """The step of the endpoint says at which point the request fails."""
    environ, _ = set_up
    checked = await check(environ, RUN, AWS_ENDPOINT_URL_OMICS=url)

    assert (1, ["endpoint"]) == (checked.code, checked.failed)
    assert url in checked.said("endpoint")
    assert words in checked.said("endpoint")
    assert "needs HealthOmics" == checked.said("clock")


async def test_check_of_an_endpoint_that_does_not_answer(set_up: SetUp) -> None:
    """The time limit of an attempt holds here too."""
    environ, _ = set_up
    limits = {
        "GATEWAY_UPSTREAM__ATTEMPT_TIMEOUT": "300ms",
        "GATEWAY_UPSTREAM__CONNECT_TIMEOUT": "300ms",
    }
    async with LyingUpstream() as lying:
        lying.lie("", (HANG,))
        checked = await check(environ, AWS_ENDPOINT_URL_OMICS=lying.url, **limits)

    assert (1, ["endpoint"]) == (checked.code, checked.failed)
    assert "there is no answer in time; check routes" in checked.said("endpoint")


async def test_check_of_an_untrusted_certificate(tmp_path: Path, set_up: SetUp) -> None:
    """OpenSSL's reason and the setting of the authorities are named."""
    environ, _ = set_up
    upstream = Certified()
    upstream.trusted_by(tmp_path)
    async with LyingUpstream(tls=upstream.context) as lying:
        environ["AWS_ENDPOINT_URL_OMICS"] = lying.url
        untrusted = await check(environ)
        trusted = await check(environ, AWS_CA_BUNDLE=str(tmp_path / "ca.pem"))

    assert (1, ["endpoint"]) == (untrusted.code, untrusted.failed)
    assert "set AWS_CA_BUNDLE" in untrusted.said("endpoint")
    assert "unable to get local issuer certificate" in untrusted.said("endpoint")
    assert "its certificate is trusted" in trusted.said("endpoint")


@pytest.mark.parametrize(
    ("minutes", "words"),
    [
        pytest.param(20, "20m 0s behind AWS's", id="behind"),
        pytest.param(-20, "20m 0s ahead of AWS's", id="ahead"),
    ],
)
async def test_check_of_a_wrong_clock(minutes: int, words: str, set_up: SetUp) -> None:
    """The step of the clock says by how much it is wrong."""
    environ, _ = set_up
    async with LyingUpstream() as lying:
        lying.lie("", lambda _: http("{}", status=403, date=date_in(minutes)))
        checked = await check(environ, AWS_ENDPOINT_URL_OMICS=lying.url)

    assert (1, ["clock"]) == (checked.code, checked.failed)
    said = checked.said("clock").replace("19m 59s", "20m 0s")
    assert words in said.replace("20m 1s", "20m 0s")
    assert "synchronize it" in said


def date_in(minutes: int) -> str:
    """Return the header of a date that is so far ahead of this machine's clock."""
    return format_datetime(datetime.now(UTC) + timedelta(minutes=minutes), usegmt=True)


@pytest.mark.parametrize(
    ("run_id", "words"),
    [
        pytest.param(DENIED, "access is denied; allow omics:GetRun", id="denied"),
        pytest.param(MISSING, "there is no such run in this account", id="missing"),
    ],
)
async def test_check_of_a_run_that_can_not_be_read(
    run_id: str, words: str, set_up: SetUp
) -> None:
    """A missing permission and a missing run have different advice."""
    environ, _ = set_up
    checked = await check(environ, run_id)

    assert (1, ["run"]) == (checked.code, checked.failed)
    assert words in checked.said("run")
    assert ("AWS says: User: arn:" in checked.said("run")) is (run_id == DENIED)


# Broken set-ups: what the gateway serves


async def test_check_of_a_key_of_another_certificate(
    tmp_path: Path, set_up: SetUp
) -> None:
    """The step of the certificates fails, and that of the settings doesn't."""
    environ, _ = set_up
    authority = trustme.CA()
    tls = tls_settings(authority.issue_cert(HOST), tmp_path)
    (tmp_path / "key.pem").write_bytes(key_of(authority.issue_cert(HOST)))
    checked = await check(environ | tls)

    assert (1, ["certificates"]) == (checked.code, checked.failed)
    assert "the key isn't the certificate's" in checked.said("certificates")


async def test_check_of_an_expired_certificate(tmp_path: Path, set_up: SetUp) -> None:
    """The date of its end is shown."""
    environ, _ = set_up
    checked = await check(environ | tls_settings(expired(trustme.CA()), tmp_path))

    assert (1, ["certificates"]) == (checked.code, checked.failed)
    assert "the certificate expired on 20" in checked.said("certificates")


async def test_check_of_a_certificate_without_the_host_name(
    tmp_path: Path, set_up: SetUp
) -> None:
    """A name that clients connect to is missing in a listener's certificate."""
    environ, _ = set_up
    files_in(trustme.CA().issue_cert("other.example.org"), tmp_path)
    toml = (
        f'[[listeners]]\naddress = "gateway.invalid:0"\n'
        f'cert_file = "{tmp_path}/cert.pem"\nkey_file = "{tmp_path}/key.pem"\n'
    )
    checked = await check(environ, "--config", written(tmp_path, toml))

    # The address isn't one of this machine either.
    assert (1, ["certificates", "addresses"]) == (checked.code, checked.failed)
    assert "the name doesn't resolve" in checked.said("addresses")
    said = checked.said("certificates")
    assert "lacks the host name gateway.invalid of listeners[0].address" in said
    assert "issue one that has it. This one has other.example.org" in said


async def test_check_of_unreachable_keys(set_up: SetUp) -> None:
    """The URL of the keys is named, and why it can't be read."""
    environ, _ = set_up
    url = "http://127.0.0.1:1/jwks.json"
    checked = await check(environ, **jwt_settings(JWKS_URL=url))

    assert (1, ["jwks"]) == (checked.code, checked.failed)
    assert f"jwt.jwks_url {url}: it can't be connected to" in checked.said("jwks")


async def test_check_of_keys_that_are_not_usable(set_up: SetUp) -> None:
    """The reasons to leave keys out are shown."""
    environ, _ = set_up
    weak = Signer("weak", "RSA-1024")
    async with KeyServer(weak, Signer("other", "Ed25519")) as issuer:
        checked = await check(environ, **jwt_settings(JWKS_URL=issuer.url))

    assert (1, ["jwks"]) == (checked.code, checked.failed)
    said = checked.said("jwks")
    assert "no usable key for ES256, RS256; publish one" in said
    assert "it has keys for EdDSA; left out: weak: it is shorter than 2048" in said


async def test_check_of_a_port_in_use(set_up: SetUp) -> None:
    """The address that another program serves is named."""
    environ, _ = set_up
    with socket.create_server((HOST, 0)) as other:
        address = f"{HOST}:{other.getsockname()[1]}"
        checked = await check(environ, GATEWAY_LISTEN=address)

    assert (1, ["addresses"]) == (checked.code, checked.failed)
    assert (
        f"listen {address}: it can't be bound; is it in use? Free it, or set another"
        " address"
    ) in checked.said("addresses")


@pytest.mark.parametrize("kind", ["full", "read-only", "unread"])
async def test_check_of_a_log_that_can_not_be_written(kind: str, set_up: SetUp) -> None:
    """An event that can't be written to standard error fails the step of the log."""
    environ, _ = set_up
    reader, unread = os.pipe()
    os.write(unread, b" " * fcntl.fcntl(unread, fcntl.F_GETPIPE_SZ))  # until it is full
    opened = {
        "full": lambda: os.open("/dev/full", os.O_WRONLY),
        "read-only": lambda: os.open(os.devnull, os.O_RDONLY),
        "unread": lambda: os.dup(unread),
    }[kind]()
    checked = await check(environ, stderr=opened)
    for each in (reader, unread, opened):
        os.close(each)

    assert (1, ["log"]) == (checked.code, checked.failed)
    words = {
        "full": "No space left",
        "read-only": "Bad file",
        "unread": "nothing reads",
    }
    assert words[kind] in checked.said("log")
    assert "Redirect it to a file" in checked.said("log")
