"""Shutdown while clients and servers stall, and after the accept loop has ended."""

from __future__ import annotations

import asyncio
import fcntl
import os
import ssl
import sys
from asyncio.subprocess import PIPE
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    suppress,
)
from pathlib import Path

import aiohttp
import grpc
import pytest
import trustme
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc

from healthomics.v1.run_service_pb2 import GetRunRequest
from healthomics.v1.run_service_pb2_grpc import RunServiceStub
from healthomics_gateway.app.liveness import accept_loops
from healthomics_gateway.app.shutdown import FORCE_SECONDS
from healthomics_gateway.sandbox import Sandbox
from testkit.authorities import HOST, channel_to, root_of, tls_settings
from testkit.blocking_clients import blocking
from testkit.builders import Upstream, aws_at, calling, gateway, get_run, refused
from testkit.callers import LIMS, OURS, bearing, rule, settings_of_tokens, token, until
from testkit.gateway_process import (
    CREDENTIALS,
    NEVER,
    STOP_SECONDS,
    Served,
    client,
    serving,
    starting,
)
from testkit.sts_server import FakeSts
from testkit.sts_sessions import SessionUpstream

PATIENCE_SECONDS = 20.0  # a generous limit for events that don't depend on a client
STREAMS = 3
LINES = 30  # log lines; more than the pipe holds
UNREAD = ("health-zero", "watches-zero", "window-zero")
FORCED, DEAD = 1, 70  # exit codes
NOWHERE = "http://127.0.0.1:9"
IDLE = 160  # connections
ROLE = "arn:aws:iam::123456789012:role/omics-read"
FEW_FILES = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (176, 176))
from healthomics_gateway.cli.main import main
sys.exit(main())
"""
PLANTED = """
import asyncio, os, threading
from healthomics.v1.run_service_pb2_grpc import RunServiceStub
from healthomics_gateway.app.liveness import accept_loops
from healthomics_gateway.app.process import serve
from healthomics_gateway.settings.load import load
from testkit.builders import ANYWHERE, aws_at
async def started(gateway):
    {planted}
where = dict(listen=ANYWHERE, admin_listen=ANYWHERE)
settings = load(flags=where, environ=dict(GATEWAY_DRAIN_TIME="0s")).settings
aws = aws_at(os.environ["AWS_ENDPOINT_URL_OMICS"])
asyncio.run(serve(settings, aws, started=started, force_seconds={force_seconds}))
"""
ENDING_ACCEPT_LOOP = """
    while not gateway.in_flight:
        await asyncio.sleep(0.01)
    for each in accept_loops():
        each.cancel()
"""
BLOCKED_LOOP = "threading.Event().wait()"
INTERRUPTED = """
import os, signal, sys
class Signal:
    def find_spec(self, name, path=None, target=None):
        if name == "{module}":
            os.kill(os.getpid(), signal.{number})
sys.meta_path.insert(0, Signal())
from healthomics_gateway.__main__ import main
sys.exit(main())
"""
STDOUT_LOST = "healthomics-gateway: standard output: Broken pipe"


def serving_with_fault(
    url: str, fault: str, *, force_seconds: float = FORCE_SECONDS
) -> AbstractAsyncContextManager[Served]:
    """Run a gateway process with a seeded fault."""
    paths = (str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", ""))
    return serving(
        url,
        program=(
            "-c",
            PLANTED.format(planted=fault, force_seconds=force_seconds),
        ),
        PYTHONPATH=os.pathsep.join(filter(None, paths)),
    )


@asynccontextmanager
async def idle_connections(
    address: str, said: bytes = b"", *, connections: int = 1
) -> AsyncIterator[None]:
    """Open connections that send these bytes and nothing more."""
    host, _, port = address.rpartition(":")
    writers = []
    try:
        for _ in range(connections):
            _, writer = await asyncio.open_connection(host, int(port))
            writers.append(writer)
            writer.write(said)
        yield
    finally:
        for each in writers:
            each.transport.abort()


@pytest.mark.guarantee("shutdown-time")
@pytest.mark.parametrize("attack", UNREAD)
async def test_drain_waits_for_no_client(attack: str) -> None:
    """Health streams, watches and unread answers don't delay the drain."""
    async with (
        Sandbox(quota_per_second=0) as sandbox,
        gateway(aws_at(sandbox.url)) as served,
        blocking(str(served.address), attack, streams=STREAMS),
        asyncio.timeout(PATIENCE_SECONDS),
    ):
        await served.drain(0)


@pytest.mark.parametrize(
    ("port", "said"),
    [
        pytest.param("address", b"PRI * HTTP/2.0", id="half-a-preface"),
        pytest.param("admin_address", b"GET /livez HTTP/1.1\r\n", id="half-a-request"),
    ],
)
async def test_drain_waits_for_no_connection(port: str, said: bytes) -> None:
    """A connection with an incomplete preface or request doesn't delay the drain."""
    async with (
        Sandbox() as sandbox,
        gateway(aws_at(sandbox.url)) as served,
        idle_connections(str(getattr(served, port)), said),
        asyncio.timeout(PATIENCE_SECONDS),
    ):
        await served.drain(0)


async def test_drain_waits_for_no_keys() -> None:
    """If the JWKS server never answers, the drain and its calls still end in time."""
    async with Upstream(NEVER) as keys:
        issuer = {
            "GATEWAY_JWT__ISSUER": "https://issuer.test",
            "GATEWAY_JWT__AUDIENCE": "gateway",
            "GATEWAY_JWT__JWKS_URL": f"{keys.url}/keys",
        }
        async with (
            gateway(aws_at(NOWHERE), **issuer) as served,
            calling(served) as stub,
            asyncio.timeout(PATIENCE_SECONDS),
        ):
            request = GetRunRequest(id="1000003")
            waiting = stub.GetRun(request, timeout=60, metadata=bearing(token()))
            await keys.asked.wait()
            await served.drain(0)
            waiting.cancel()


async def test_drain_waits_for_no_session(tmp_path: Path) -> None:
    """If STS never answers, the drain isn't delayed; calls get GATEWAY_DRAINING."""
    role = rule(LIMS, aws_role=ROLE)
    async with (
        FakeSts() as sts,
        SessionUpstream(sts.given) as upstream,
        gateway(
            sts.aws(upstream.url), toml=role, **settings_of_tokens(tmp_path)
        ) as served,
        calling(served) as stub,
        asyncio.timeout(PATIENCE_SECONDS),
    ):
        sts.stall(ROLE)
        request = GetRunRequest(id=OURS)
        call = stub.GetRun(request, timeout=60, metadata=bearing(token()))
        waiting = asyncio.create_task(refused(call))
        await until(lambda: served.in_flight)
        await served.drain(0)
        ended = await waiting
        sts.flow(ROLE)

    assert "GATEWAY_DRAINING" == ended.reason


@pytest.mark.guarantee("shutdown-time")
async def test_shutdown_is_never_delayed(tmp_path: Path) -> None:
    """The process ends in time with exit code 0 although all of these stall at once."""
    authority = trustme.CA()
    files = tls_settings(authority.issue_cert(HOST), tmp_path)
    config = tmp_path / "gateway.toml"
    config.write_text('[[callers]]\nidentity = "anonymous"\n')
    tls = ssl.create_default_context(cadata=root_of(authority).decode())
    tls.set_alpn_protocols(["h2"])
    async with AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(Sandbox(quota_per_second=0))
        keys = await stack.enter_async_context(Upstream(NEVER))
        served = await stack.enter_async_context(
            serving(
                sandbox.url,
                arguments=("--config", str(config)),
                GATEWAY_DRAIN_TIME="0s",
                GATEWAY_JWT__ISSUER="https://issuer.example.org",
                GATEWAY_JWT__AUDIENCE="gateway",
                GATEWAY_JWT__JWKS_URL=f"{keys.url}/keys",
                **files,
            )
        )
        served.stall()
        for attack in UNREAD:
            await stack.enter_async_context(
                blocking(served.address, attack, streams=STREAMS, tls=tls)
            )
        for address, said in (
            (served.address, b"\x16\x03\x01"),  # the first bytes of a TLS handshake
            (served.admin_address, b"GET /livez HTTP/1.1\r\n"),
        ):
            await stack.enter_async_context(idle_connections(address, said))
        async with asyncio.timeout(PATIENCE_SECONDS):
            await keys.asked.wait()
            async with channel_to(served.address, root_of(authority)) as channel:
                stub = RunServiceStub(channel)
                calls = [refused(get_run(stub, "x")) for _ in range(LINES)]
                reasons = {each.reason for each in await asyncio.gather(*calls)}
        served.terminate()
        code = await served.ended(STOP_SECONDS)

    assert {"INVALID_REQUEST"} == reasons
    assert 0 == code
    assert "error" not in {each["level"] for each in served.events()}


@pytest.mark.guarantee("shutdown-time")
async def test_signal_ends_a_gateway_that_is_starting(tmp_path: Path) -> None:
    """A gateway that waits for STS at its start ends at a signal."""
    config = tmp_path / "gateway.toml"
    config.write_text(
        '[[callers]]\nidentity = "anonymous"\n'
        'aws_role = "arn:aws:iam::123456789012:role/omics"\n'
    )
    async with (
        Upstream(NEVER) as sts,
        starting(
            sts.url,
            arguments=("--config", str(config)),
            AWS_ENDPOINT_URL_STS=sts.url,
        ) as served,
    ):
        async with asyncio.timeout(PATIENCE_SECONDS):
            await sts.asked.wait()
        served.terminate()
        assert 0 == await served.ended(STOP_SECONDS)


@pytest.mark.parametrize(
    ("module", "number", "command", "code"),
    [
        pytest.param("healthomics_gateway.cli.main", "SIGINT", "serve", 0, id="first"),
        pytest.param("uvloop", "SIGTERM", "serve", 0, id="last"),
        pytest.param("healthomics_gateway.cli.main", "SIGINT", "get", FORCED, id="get"),
    ],
)
async def test_signal_while_modules_are_imported_ends_the_process(
    module: str, number: str, command: str, code: int
) -> None:
    """From its first import on, `serve` ends with exit code 0 and prints nothing."""
    program = INTERRUPTED.format(module=module, number=number)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, command),
        env=os.environ | CREDENTIALS,
        stderr=PIPE,
    )
    async with asyncio.timeout(PATIENCE_SECONDS):
        _, said = await process.communicate()

    assert (code, b"") == (process.returncode, said)


async def test_unread_stdout_delays_nothing() -> None:
    """`serve --sandbox` serves while stdout isn't read, and once it has no reader."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writing, bytes(fcntl.fcntl(writing, fcntl.F_GETPIPE_SZ)))
    os.set_blocking(writing, True)
    async with (
        serving(NOWHERE, arguments=("--sandbox",), stdout=writing) as served,
        client(served) as stub,
    ):
        os.close(writing)
        assert "1000003" == (await get_run(stub, "1000003")).id
        os.close(reading)
        said = await served.event(STDOUT_LOST)
        served.terminate()
        assert "warning" == said["level"]
        assert 0 == await served.ended(PATIENCE_SECONDS)


@pytest.mark.guarantee("shutdown-time")
async def test_process_with_a_blocked_event_loop_ends_by_force() -> None:
    """A watchdog ends the process with exit code 1, after the drain time."""
    async with serving_with_fault(NOWHERE, BLOCKED_LOOP, force_seconds=0.1) as served:
        served.terminate()
        assert FORCED == await served.ended(PATIENCE_SECONDS)


@pytest.mark.guarantee("liveness")
async def test_process_ends_when_its_accept_loop_has_ended() -> None:
    """Calls under way end with GATEWAY_DRAINING, and the exit code is 70."""
    async with (
        Upstream(NEVER) as upstream,
        serving_with_fault(upstream.url, ENDING_ACCEPT_LOOP) as served,
        client(served) as stub,
    ):
        failure = await refused(get_run(stub, "1000003", seconds=60))
        code = await served.ended(STOP_SECONDS)

    assert (StatusCode.UNAVAILABLE, "GATEWAY_DRAINING") == (
        failure.code,
        failure.reason,
    )
    assert DEAD == code


@pytest.mark.guarantee("liveness")
async def test_probes_fail_when_the_accept_loop_has_ended() -> None:
    """Health and both admin pages fail before the process ends."""
    async with (
        Sandbox() as sandbox,
        gateway(aws_at(sandbox.url)) as served,
        grpc.aio.insecure_channel(str(served.address)) as channel,
        aiohttp.ClientSession(f"http://{served.admin_address}") as session,
    ):
        watch = health_pb2_grpc.HealthStub(channel).Watch(
            health_pb2.HealthCheckRequest(), timeout=PATIENCE_SECONDS
        )
        seen = [(await watch.read()).status]
        for each in accept_loops():
            each.cancel()
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert "its accept loop has ended" == await served.died()
        seen.append((await watch.read()).status)
        statuses = []
        for page in ("/livez", "/readyz"):
            async with session.get(page) as answer:
                statuses.append(answer.status)

    health = health_pb2.HealthCheckResponse
    assert [health.SERVING, health.NOT_SERVING] == seen
    assert [503, 503] == statuses


@pytest.mark.guarantee("admin-connections")
async def test_idle_connections_leave_files_for_calls() -> None:
    """With a low limit on files and idle connections on each port, calls get a file."""
    async with AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(
            Sandbox(quota_per_second=0, latency_seconds=0.3)
        )
        served = await stack.enter_async_context(
            serving(
                sandbox.url,
                program=("-c", FEW_FILES),
                GATEWAY_QUOTA__TPS="10000",
                GATEWAY_QUOTA__BURST="10000",
            )
        )
        stub = await stack.enter_async_context(client(served))
        assert "1000003" == (await get_run(stub, "1000003")).id
        for address in (served.admin_address, served.address):
            await stack.enter_async_context(idle_connections(address, connections=IDLE))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        attempts = [refused(get_run(stub, str(9000 + each))) for each in range(64)]
        ends = Counter(each.reason for each in await asyncio.gather(*attempts))
        assert {"RUN_NOT_FOUND": 64} == ends
        async with session.get(f"http://{served.admin_address}/livez") as answer:
            assert 200 == answer.status
