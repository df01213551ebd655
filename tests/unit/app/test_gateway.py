"""A composed gateway: its stack of sources, its addresses and its end."""

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
import trustme
from google.rpc.error_details_pb2 import DebugInfo
from grpc_health.v1 import health_pb2, health_pb2_grpc
from structlog.testing import capture_logs

from healthomics.v1.run_service_pb2 import GetRunRequest
from healthomics.v1.run_service_pb2_grpc import RunServiceStub
from healthomics_gateway.app.gateway import Gateway
from healthomics_gateway.app.listener import ListenError
from healthomics_gateway.app.reload import ConfigFile, Reload
from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.services.names import RUN_SERVICE
from healthomics_gateway.settings.load import load
from healthomics_gateway.settings.schema import Settings
from healthomics_gateway.upstream.config import Aws
from healthomics_gateway.upstream.sigv4 import Credentials
from testkit.authorities import tls_settings
from testkit.builders import (
    ANYWHERE,
    Upstream,
    aws_at,
    calling,
    gateway,
    get_run,
    http,
    refused,
)
from testkit.callers import until

RUN_ID = "1234567"
ANSWER = http(json.dumps({"id": RUN_ID, "name": "mine", "sessionPolicy": "{}"}))
FAILURE = http('{"message": "reported to debuggers alone"}', status=500)
THROTTLE = http("{}", status=429, x_amz_retry_after="60000")
NOWHERE = "http://127.0.0.1:9"  # for tests without a request to HealthOmics
OURS = re.compile("AWS_|GATEWAY_")  # settings of this machine, which tests remove
OWN_EVENTS = {"serving", "draining", "stopped"}
TURNS = 20  # of the event loop, enough for all pending callbacks
PARTS = "listeners: ok\naws: ok\nupstream: ok\n"  # that every gateway has
MAX_SECONDS = 20  # time limit of a process


@contextmanager
def taken() -> Iterator[str]:
    """An address that another socket listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def has_ipv6() -> bool:
    """Return whether this machine has the loopback address of IPv6."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


# the stack


async def test_stack_retries_until_an_answer() -> None:
    """Two failures of HealthOmics and an answer are an answer, by three requests."""
    async with (
        Upstream(FAILURE, FAILURE, ANSWER) as upstream,
        gateway(aws_at(upstream.url)) as served,
        calling(served) as stub,
    ):
        run = await get_run(stub, RUN_ID)

    assert ("mine", "{}") == (run.name, run.session_policy)
    assert 3 == len(upstream.requests)


async def test_stack_makes_max_attempts() -> None:
    """`upstream.max_attempts` limits the attempts; the error has their number."""
    async with (
        Upstream(FAILURE) as upstream,
        gateway(aws_at(upstream.url), GATEWAY_UPSTREAM__MAX_ATTEMPTS="2") as served,
        calling(served) as stub,
    ):
        reported = await refused(get_run(stub, RUN_ID))

    assert "UPSTREAM_UNAVAILABLE" == reported.reason
    assert ("2", 2) == (reported.metadata["attempts"], len(upstream.requests))


async def test_stack_returns_a_retry_delay_beyond_the_deadline() -> None:
    """A throttle with a delay beyond the deadline is returned after one request."""
    async with (
        Upstream(THROTTLE) as upstream,
        gateway(aws_at(upstream.url)) as served,
        calling(served) as stub,
    ):
        reported = await refused(get_run(stub, RUN_ID, seconds=4))

    assert "UPSTREAM_THROTTLED" == reported.reason
    delay = reported.details["RetryInfo"].retry_delay
    assert 5000 <= delay.ToMilliseconds() <= 6000
    assert 1 == len(upstream.requests)


async def test_stack_withholds_a_member() -> None:
    """`withhold` removes a member from every answer."""
    async with (
        Upstream(ANSWER) as upstream,
        gateway(aws_at(upstream.url), GATEWAY_WITHHOLD="sessionPolicy") as served,
        calling(served) as stub,
    ):
        run = await get_run(stub, RUN_ID)

    assert ("mine", False) == (run.name, run.HasField("session_policy"))


@pytest.mark.parametrize(
    ("value", "expected"), [("true", ["reported to debuggers alone"]), ("false", [])]
)
async def test_stack_returns_aws_message_in_debug(
    value: str, expected: list[str]
) -> None:
    """With `errors.debug` the error has AWS's own message."""
    settings = {"GATEWAY_ERRORS__DEBUG": value, "GATEWAY_UPSTREAM__MAX_ATTEMPTS": "1"}
    async with (
        Upstream(FAILURE) as upstream,
        gateway(aws_at(upstream.url), **settings) as served,
        calling(served) as stub,
    ):
        reported = await refused(get_run(stub, RUN_ID))

    assert expected == [
        each.detail for each in reported.details.values() if isinstance(each, DebugInfo)
    ]


async def test_stack_ends_a_call_at_the_default_deadline() -> None:
    """`default_deadline` ends a call without a deadline, and its request."""
    async with (
        Upstream([30.0]) as upstream,
        gateway(aws_at(upstream.url), GATEWAY_DEFAULT_DEADLINE="100ms") as served,
        calling(served) as stub,
    ):
        reported = await refused(get_run(stub, RUN_ID, seconds=None))
        await asyncio.wait_for(upstream.hung_up.wait(), 5)

    assert (grpc.StatusCode.DEADLINE_EXCEEDED, "SERVER_DEADLINE") == (
        reported.code,
        reported.reason,
    )
    assert {
        "runId": RUN_ID,
        "region": "us-east-1",
        "attempts": "1",
    } == reported.metadata


# readiness


@asynccontextmanager
async def watching(served: Gateway) -> AsyncIterator[Any]:
    """Watch the health of RunService at a gateway."""
    async with grpc.aio.insecure_channel(str(served.address)) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(
            health_pb2.HealthCheckRequest(service=RUN_SERVICE), timeout=10
        )
        yield watch
        watch.cancel()


async def readyz(served: Gateway, query: str = "") -> tuple[int, str]:
    """Return the status and the body of `/readyz`."""
    url = f"http://{served.admin_address}/readyz{query}"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, await response.text()


async def next_health(watch: Any, status: int) -> None:
    """Wait until the health has this status."""
    while (await watch.read()).status != status:
        pass


class NoIdentity:
    """An identity without credentials."""

    is_usable = False

    async def credentials(self) -> Credentials:
        """Raise the error of missing credentials."""
        raise GatewayError(Reason.GATEWAY_CREDENTIALS_UNAVAILABLE)

    async def renew(self, refused: Credentials) -> bool:  # noqa: ARG002  # as CredentialsProvider has it
        """Return that there are no others."""
        return False

    def fault(self) -> str:
        """Return that there is no fault."""
        return ""

    async def close(self) -> None:
        """Do nothing."""


def without_credentials() -> Aws:
    """Return AWS's settings without credentials."""
    return replace(aws_at(NOWHERE), provider=lambda _report: NoIdentity())


async def test_gateway_with_credentials_is_ready_before_its_first_call() -> None:
    """Credentials are read at the start; health and `/readyz` show it."""
    async with gateway(aws_at(NOWHERE)) as served, watching(served) as watch:
        await next_health(watch, health_pb2.HealthCheckResponse.SERVING)
        assert (200, "ok\n") == await readyz(served)


async def test_gateway_has_the_settings_of_its_last_reload(tmp_path: Path) -> None:
    """They are those of the start until the file is reloaded."""

    def read(content: bytes) -> Settings:
        flags = {"listen": ANYWHERE, "admin_listen": ANYWHERE}
        return load(flags=flags, environ={}, config_file=file, content=content).settings

    file, requested, levels = tmp_path / "gateway.toml", asyncio.Event(), list[str]()
    file.write_text('withhold = ["name"]')
    before = read(b"")
    config = ConfigFile(file, b"", read)
    reload = Reload(file=config, requested=requested, set_log_level=levels.append)
    served = Gateway(before, aws_at(NOWHERE), reload=reload)
    try:
        await served.start()
        at_start = served.parts.reloads.settings
        requested.set()
        await until(lambda: served.parts.reloads.outcomes["ok"])
    finally:
        await served.stop()

    assert before is at_start
    assert frozenset({"name"}) == served.parts.reloads.settings.withhold
    assert ["info"] == levels


async def test_gateway_without_a_file_has_the_settings_of_its_start() -> None:
    """Nothing is reloaded."""
    async with gateway(aws_at(NOWHERE), GATEWAY_WITHHOLD="name") as served:
        assert frozenset({"name"}) == served.parts.reloads.settings.withhold
        assert served.parts.reloads.is_ok


async def test_gateway_without_credentials_is_unready() -> None:
    """It starts, and answers calls with the reason; it isn't ready."""
    async with (
        gateway(without_credentials()) as served,
        watching(served) as watch,
        calling(served) as stub,
    ):
        reported = await refused(get_run(stub, RUN_ID))
        first = await watch.read()
        assert (503, "GATEWAY_CREDENTIALS_UNAVAILABLE\n") == await readyz(served)

    assert health_pb2.HealthCheckResponse.NOT_SERVING == first.status
    assert "GATEWAY_CREDENTIALS_UNAVAILABLE" == reported.reason


@pytest.mark.guarantee("readiness")
async def test_gateway_is_unready_until_keys_are_read() -> None:
    """Without keys no token can be verified; `/readyz` has a line for it."""
    keys = http(json.dumps({"keys": []}))
    async with (
        Upstream(http(status=401)) as refusing,
        Upstream(keys) as answering,
        gateway(aws_at(NOWHERE), **issuer_at(refusing)) as unready,
        gateway(aws_at(NOWHERE), **issuer_at(answering)) as served,
        watching(served) as watch,
    ):
        await next_health(watch, health_pb2.HealthCheckResponse.SERVING)
        async with asyncio.timeout(MAX_SECONDS):
            while "401" not in (reported := (await readyz(unready, "?verbose"))[1]):
                pass

        assert (503, "AUTH_BACKEND_UNAVAILABLE\n") == await readyz(unready)
        why = "AUTH_BACKEND_UNAVAILABLE: status 401, "
        assert f"{PARTS}keys: {why}" in reported
        assert (200, f"{PARTS}keys: ok\n") == await readyz(served, "?verbose")


def issuer_at(upstream: Upstream) -> dict[str, str]:
    """Return settings that verify tokens with keys from a server."""
    return {
        "GATEWAY_JWT__ISSUER": "https://issuer.example.org",
        "GATEWAY_JWT__AUDIENCE": "gateway",
        "GATEWAY_JWT__JWKS_URL": f"{upstream.url}/keys",
        "GATEWAY_OPEN_SERVICES": "Health",
    }


class BrokenIdentity(NoIdentity):
    """An identity that raises an unexpected exception."""

    async def credentials(self) -> Credentials:
        """Raise an unexpected error."""
        raise RuntimeError("a bug")


async def test_failed_task_is_a_fault_of_its_part() -> None:
    """`/readyz?verbose` shows that the task of a part has failed and runs again."""
    aws = replace(aws_at(NOWHERE), provider=lambda _report: BrokenIdentity())
    fault = "its task failed with RuntimeError and will be restarted"
    async with gateway(aws) as served, asyncio.timeout(MAX_SECONDS):
        while fault not in (reported := (await readyz(served, "?verbose"))[1]):
            pass

    why = "GATEWAY_CREDENTIALS_UNAVAILABLE"
    assert f"listeners: ok\naws: {why}: {fault}\nupstream: ok\n" == reported


async def test_drained_gateway_is_unready() -> None:
    """After the drain, health and `/readyz` show that it isn't serving."""
    async with gateway(aws_at(NOWHERE)) as served, watching(served) as watch:
        await next_health(watch, health_pb2.HealthCheckResponse.SERVING)
        await served.drain(0)
        await next_health(watch, health_pb2.HealthCheckResponse.NOT_SERVING)
        assert (503, "GATEWAY_DRAINING\n") == await readyz(served)


async def test_second_eviction_takes_no_longer() -> None:
    """A second signal near the end of a drain doesn't start the eviction again."""
    async with gateway(aws_at(NOWHERE)) as served:
        first = asyncio.create_task(served.evict())
        await asyncio.sleep(0)  # the eviction has started
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await served.evict()
        again = asyncio.create_task(served.evict())
        for _ in range(TURNS):
            await asyncio.sleep(0)  # a turn of the event loop
        assert again.done()


async def test_call_evicted_by_a_drain_has_a_reason() -> None:
    """A call that lasts longer than the drain gets a status; its request ends."""
    async with (
        Upstream([30.0]) as upstream,
        gateway(aws_at(upstream.url)) as served,
        calling(served) as stub,
    ):
        call = asyncio.create_task(refused(get_run(stub, RUN_ID)))
        await upstream.asked.wait()
        await served.drain(0)
        await served.stop()
        reported = await call
        await asyncio.wait_for(upstream.hung_up.wait(), 5)

    assert (grpc.StatusCode.UNAVAILABLE, "GATEWAY_DRAINING") == (
        reported.code,
        reported.reason,
    )
    assert RUN_ID == reported.metadata["runId"]


# addresses


async def test_addresses_in_use_are_reported_together() -> None:
    """If both addresses are in use, both are reported."""
    with taken() as listen, taken() as admin_listen:
        settings = load(
            flags={"listen": listen, "admin_listen": admin_listen}, environ={}
        ).settings
        unserved = Gateway(settings, aws_at(NOWHERE))
        with pytest.raises(ListenError) as caught:
            await unserved.start()
        await unserved.stop()

    assert {
        f"listen {listen}: it can't be bound; is it in use?",
        f"admin_listen {admin_listen}: it can't be bound; is it in use?",
    } == set(caught.value.args)


@pytest.mark.parametrize("setting", ["admin_listen", "listeners[0].address"])
async def test_address_in_use_is_the_only_fault(setting: str) -> None:
    """A server that is stopped again isn't reported as a fault."""
    with taken() as address, capture_logs() as events:
        is_admin = setting == "admin_listen"
        where = {"admin_listen": address} if is_admin else {}
        further = "" if is_admin else f'[[listeners]]\naddress = "{address}"\n'
        with pytest.raises(ListenError) as caught:
            async with gateway(aws_at(NOWHERE), toml=further, **where):
                pass
        await asyncio.sleep(0)  # for the last callback of the accept loop

    assert (f"{setting} {address}: it can't be bound; is it in use?",) == (
        caught.value.args
    )
    assert [] == events


async def test_addresses_are_free_after_the_stop() -> None:
    """A stopped gateway doesn't listen."""
    async with gateway(aws_at(NOWHERE)) as served:
        addresses = [served.address, served.admin_address]

    for address in addresses:
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(address.host, address.port)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        pytest.param(
            "[::1]",
            marks=pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on this machine"),
        ),
    ],
)
async def test_address_has_the_real_port(host: str) -> None:
    """With port 0 both addresses have the port that was chosen."""
    settings = load(
        flags={"listen": f"{host}:0", "admin_listen": f"{host}:0"}, environ={}
    ).settings
    served = Gateway(settings, aws_at(NOWHERE))
    await served.start()
    try:
        async with calling(served) as stub:
            reported = await refused(get_run(stub, "x"))
        status, _ = await readyz(served)
    finally:
        await served.stop()

    assert "INVALID_REQUEST" == reported.reason
    assert status in (200, 503)
    assert {host.strip("[]")} == {served.address.host, served.admin_address.host}


# the process


async def started(
    *,
    listen: str = "127.0.0.1:0",
    admin_listen: str = "127.0.0.1:0",
    **environ: str,
) -> asyncio.subprocess.Process:
    """Start `healthomics-gateway serve` without settings of the machine."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "healthomics_gateway", "serve"),
        *("--listen", listen, "--admin-listen", admin_listen),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={
            **{name: os.environ[name] for name in os.environ if not OURS.match(name)},
            "AWS_ACCESS_KEY_ID": "made-up",
            "AWS_SECRET_ACCESS_KEY": "made-up",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL_OMICS": NOWHERE,
            "PYTHONWARNINGS": "always",  # so that unclosed resources are reported
            **environ,
        },
    )


async def test_log_has_the_start_and_the_end_of_a_process() -> None:
    """All its output is one JSON event on each line of stderr."""
    program = await started()
    assert program.stderr
    async with asyncio.timeout(MAX_SECONDS):
        lines = []
        async for line in program.stderr:
            lines.append(line)
            if b'"serving"' in line:
                break
        program.terminate()
        out, rest = await program.communicate()
    events = [json.loads(line) for line in [*lines, *rest.splitlines()]]
    own = [event for event in events if event["event"] in OWN_EVENTS]

    assert (0, b"") == (program.returncode, out)
    assert ["serving", "draining", "stopped"] == [event["event"] for event in own]
    assert re.fullmatch(r"127\.0\.0\.1:[0-9]+", own[0]["address"])
    assert "stopped" == events[-1]["event"]


@pytest.mark.guarantee("audit-log")
async def test_call_is_audited_at_every_log_level() -> None:
    """Each call has one event with caller, method and outcome."""
    with taken() as listen:  # a port that is free afterwards
        pass
    program = await started(listen=listen, GATEWAY_LOG__LEVEL="error")
    async with (
        asyncio.timeout(MAX_SECONDS),
        grpc.aio.insecure_channel(listen) as channel,
    ):
        await channel.channel_ready()
        metadata = (("x-request-id", "mine"),)
        call = RunServiceStub(channel).GetRun(GetRunRequest(id="x"), metadata=metadata)
        await refused(call)
        program.terminate()
        _, err = await program.communicate()
    (event,) = map(json.loads, err.splitlines())

    assert {
        "event": "call",
        "level": "info",
        "request_id": "mine",
        "identity": "anonymous",
        "method": "/healthomics.v1.RunService/GetRun",
        "code": "INVALID_ARGUMENT",
        "reason": "INVALID_REQUEST",
        "from_cache": False,
    } == {
        k: v for k, v in event.items() if k not in ("timestamp", "peer", "duration_ms")
    }
    assert event["peer"].startswith("ipv4:127.0.0.1:")
    assert datetime.fromisoformat(event["timestamp"])


async def test_process_that_cannot_listen_exits() -> None:
    """If both ports are in use it exits with 2 and one line for each."""
    with taken() as listen, taken() as admin_listen:
        program = await started(listen=listen, admin_listen=admin_listen)
        async with asyncio.timeout(MAX_SECONDS):
            out, err = await program.communicate()

    assert (2, b"") == (program.returncode, out)
    assert [
        f"healthomics-gateway: {name}: it can't be bound; is it in use?"
        for name in (f"admin_listen {admin_listen}", f"listen {listen}")
    ] == sorted(err.decode().splitlines())


SERVED = """
import asyncio, gc, os, signal
from healthomics_gateway.app.process import serve
from healthomics_gateway.settings.load import load
from testkit.builders import ANYWHERE, aws_at
async def started(gateway):
    before = gc.get_freeze_count()
    gc.collect()
    print(before, len(gc.get_objects()), flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
where = {"listen": ANYWHERE, "admin_listen": ANYWHERE}
settings = load(flags=where, environ={"GATEWAY_DRAIN_TIME": "0s"}).settings
asyncio.run(serve(settings, aws_at("http://127.0.0.1:9"), started=started))
"""


@pytest.mark.guarantee("short-pauses")
def test_permanent_objects_are_not_collected() -> None:
    """Once it serves, a collection visits only the objects of calls."""
    done = subprocess.run(
        [sys.executable, "-c", SERVED],
        # The path of this process, which a seeded bug prepends to.
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        check=True,
        encoding="utf-8",
    )
    frozen, walked = map(int, done.stdout.split())

    assert frozen > 50_000  # of the libraries and the contract
    assert walked < 1000


# warnings


async def test_public_plaintext_address_is_logged() -> None:
    """With `tls.insecure`, each start logs it."""
    settings = load(
        # This spelling isn't taken for loopback, although it is.
        flags={"listen": "LOCALHOST:0", "admin_listen": "127.0.0.1:0"},
        environ={"GATEWAY_TLS__INSECURE": "true"},
    ).settings
    served = Gateway(settings, aws_at(NOWHERE))
    with capture_logs() as events:
        await served.start()
        await served.stop()
    reported = [each for each in events if each["event"] == "serving_plaintext"]

    assert [{"event": "serving_plaintext", "log_level": "warning"}] == [
        {key: each[key] for key in ("event", "log_level")} for each in reported
    ]
    assert reported[0]["address"].startswith("LOCALHOST:")


async def test_public_tls_address_is_not_logged_as_plaintext(
    tmp_path: Path,
) -> None:
    """With a certificate, `tls.insecure` has no effect."""
    files = tls_settings(trustme.CA().issue_cert("localhost"), tmp_path)
    settings = load(
        flags={"listen": "LOCALHOST:0", "admin_listen": "127.0.0.1:0"},
        environ={"GATEWAY_TLS__INSECURE": "true"} | files,
    ).settings
    served = Gateway(settings, aws_at(NOWHERE))
    with capture_logs() as events:
        await served.start()
        await served.stop()

    assert "serving_plaintext" not in {each["event"] for each in events}


async def test_unknown_withheld_member_is_logged() -> None:
    """A misspelt name, in a rule too, would withhold nothing."""
    toml = """
withhold = ["parameters", "sesionPolicy"]

[[callers]]
identity = "anonymous"
withhold = ["name", "parametres"]
"""
    with capture_logs() as events:
        async with gateway(aws_at(NOWHERE), toml=toml):
            pass

    unknown = "GetRun isn't known to return this member; did you mean"
    assert [
        f"withhold sesionPolicy: {unknown} sessionPolicy?",
        f"callers[0].withhold parametres: {unknown} parameters?",
    ] == [each["why"] for each in events if each["event"] == "questionable_setting"]


async def test_pattern_that_matches_other_identities_is_logged(tmp_path: Path) -> None:
    """A rule that may match more callers than intended causes a warning."""
    (tmp_path / "keys.json").write_text("{}")
    with capture_logs() as events:
        async with gateway(
            aws_at(NOWHERE),
            toml='[[callers]]\nidentity = "spiffe://corp*"\n',
            GATEWAY_JWT__ISSUER="https://issuer.example",
            GATEWAY_JWT__AUDIENCE="gateway",
            GATEWAY_JWT__JWKS_FILE=str(tmp_path / "keys.json"),
        ):
            pass

    (warning,) = [each for each in events if each["event"] == "questionable_setting"]
    assert "spiffe://corp*: it also matches spiffe://corp.evil/x" in warning["why"]
    assert "warning" == warning["log_level"]


async def test_plaintext_on_loopback_is_not_logged() -> None:
    """An address that only this machine can reach may be plaintext."""
    with capture_logs() as events:
        async with gateway(aws_at(NOWHERE), GATEWAY_TLS__INSECURE="true"):
            pass

    assert "serving_plaintext" not in {each["event"] for each in events}


async def test_invalid_new_certificate_is_reported_and_the_old_one_used(
    tmp_path: Path,
) -> None:
    """`/readyz?verbose` shows the fault of the new files; the gateway is ready."""
    files = tls_settings(trustme.CA().issue_cert("127.0.0.1"), tmp_path)
    async with gateway(aws_at(NOWHERE), **files) as served:
        before = await readyz(served, "?verbose")
        (tmp_path / "cert.pem").write_bytes(b"half a certificate")
        async with asyncio.timeout(MAX_SECONDS):
            while (after := await readyz(served, "?verbose")) == before:  # noqa: ASYNC110  # it looks by itself, every two seconds
                await asyncio.sleep(0.05)
        plain = await readyz(served)

    assert (200, f"{PARTS}certificate: ok\n") == before
    fault = (
        "tls.cert_file: it contains no certificate in PEM; the old one is used until"
    )
    status, lines = after
    assert 200 == status
    assert lines.startswith(f"{PARTS}certificate: {fault} ")
    assert (200, "ok\n") == plain


async def test_certificate_that_changes_before_the_start_is_a_fault(
    tmp_path: Path,
) -> None:
    """Files that were valid for the settings may be invalid when TLS starts."""
    files = tls_settings(trustme.CA().issue_cert("127.0.0.1"), tmp_path)
    settings = load(
        flags={"listen": "127.0.0.1:0", "admin_listen": "127.0.0.1:0"},
        environ=files,
    ).settings
    served = Gateway(settings, aws_at(NOWHERE))
    (tmp_path / "key.pem").unlink()
    with pytest.raises(ListenError) as caught:
        await served.start()
    await served.stop()

    assert ("tls.key_file: no file can be read at this path",) == caught.value.args
