"""The gateway's state as gRPC health and the admin pages report it."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import aiohttp
import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from structlog.testing import capture_logs

from healthomics_gateway.app.admin import AdminPages
from healthomics_gateway.app.admin_server import AdminServer
from healthomics_gateway.app.statusz.shape import Snapshot
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.services.health import Health
from healthomics_gateway.services.names import (
    HEALTH,
    REFLECTION_V1,
    REFLECTION_V1ALPHA,
    RUN_SERVICE,
    STANDARD,
)
from healthomics_gateway.services.readiness import UPSTREAM, Readiness
from healthomics_gateway.telemetry.metrics.registry import Metrics
from testkit.blocking_clients import blocking
from testkit.snapshots import at_rest

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
NO_CREDENTIALS = Reason.GATEWAY_CREDENTIALS_UNAVAILABLE
INVALID = Reason.GATEWAY_CREDENTIALS_INVALID
UNTRUSTED = Reason.UPSTREAM_TLS_UNTRUSTED
UNREACHED = Reason.UPSTREAM_CONNECTION
REST = "aws: ok\nupstream: ok\n"  # lines of the other parts


class Timers:
    """The calls that were scheduled, made when the test moves the time."""

    def __init__(self) -> None:
        """Begin without calls."""
        self._due: list[tuple[float, Callable[[], None]]] = []
        self._now = 0.0

    def call_later(self, seconds: float, call: Callable[[], None]) -> None:
        """Schedule a call."""
        self._due.append((self._now + seconds, call))

    def go_on(self, seconds: float) -> None:
        """Move the time, and make the calls that are due."""
        self._now += seconds
        for each in [each for each in self._due if each[0] <= self._now]:
            self._due.remove(each)
            each[1]()


def readiness(timers: Timers | None = None) -> Readiness:
    """Return a gateway's readiness at its start."""
    return Readiness(call_later=(timers or Timers()).call_later)


def ready() -> Readiness:
    """Return the readiness of a gateway whose identity works."""
    state = readiness()
    state.report(None)
    return state


# Readiness


def test_gateway_is_unready_until_it_has_credentials() -> None:
    """At the start the gateway isn't ready, as it has no credentials yet."""
    state = readiness()
    at_first = state.why_not
    state.report(None)

    assert ("GATEWAY_CREDENTIALS_UNAVAILABLE", "") == (at_first, state.why_not)


@pytest.mark.parametrize("why", [NO_CREDENTIALS, INVALID, UNTRUSTED])
def test_gateway_is_unready_for_the_last_reason(why: Reason) -> None:
    """The reason that was reported last is the one that counts."""
    state = ready()
    state.report(why)

    assert why.name == state.why_not


def test_gateway_is_ready_again_once_its_identity_works() -> None:
    """A call that AWS accepts makes the gateway ready."""
    state = ready()
    state.report(INVALID)
    state.report(None)

    assert "" == state.why_not


@pytest.mark.parametrize("why", [INVALID, UNTRUSTED])
def test_gateway_is_ready_again_half_a_minute_after_a_refusal(why: Reason) -> None:
    """After 30 s the gateway is ready again, so that the next call can decide."""
    timers = Timers()
    state = readiness(timers)
    state.report(why)
    timers.go_on(29.9)
    before = state.why_not
    timers.go_on(0.1)

    assert (why.name, "") == (before, state.why_not)


def test_half_a_minute_begins_anew_with_each_refusal() -> None:
    """A repeated refusal keeps the gateway unready for another 30 s."""
    timers = Timers()
    state = readiness(timers)
    state.report(INVALID)
    timers.go_on(20)
    state.report(UNTRUSTED)
    timers.go_on(20)
    before = state.why_not
    timers.go_on(10)

    assert (UNTRUSTED.name, "") == (before, state.why_not)


def test_timer_of_an_old_refusal_does_not_end_a_new_one() -> None:
    """A refusal after a success has its own 30 s."""
    timers = Timers()
    state = readiness(timers)
    state.report(INVALID)
    timers.go_on(15)
    state.report(None)
    state.report(INVALID)
    timers.go_on(15)

    assert INVALID.name == state.why_not


@pytest.mark.guarantee("upstream-readiness")
def test_unreached_upstream_expires_apart_from_the_identity() -> None:
    """Each of the two parts that expire has a half minute of its own."""
    timers = Timers()
    state = readiness(timers)
    state.report(None)
    state.report(UNREACHED, UPSTREAM)
    timers.go_on(20)
    state.report(None)
    before = state.why_not
    state.report(UNREACHED, UPSTREAM)
    timers.go_on(29.9)
    later = state.why_not
    timers.go_on(0.1)

    assert (UNREACHED.name, UNREACHED.name, "") == (before, later, state.why_not)


def test_missing_credentials_keep_the_gateway_unready() -> None:
    """Without credentials no call can succeed, so time alone changes nothing."""
    timers = Timers()
    state = readiness(timers)
    state.report(INVALID)
    state.report(NO_CREDENTIALS)
    timers.go_on(3600)

    assert NO_CREDENTIALS.name == state.why_not


def test_draining_gateway_is_never_ready_again() -> None:
    """A gateway that drains isn't ready, even if AWS accepts calls."""
    state = ready()
    state.drain()
    state.report(None)

    assert "GATEWAY_DRAINING" == state.why_not


def test_each_change_sets_its_own_event() -> None:
    """A report that changes something sets the event of that change, and no other."""
    state = readiness()
    seen = []
    for why in (NO_CREDENTIALS, None, None, INVALID, INVALID, UNTRUSTED):
        change = state.change
        state.report(why)
        seen.append(change.is_set())
    change = state.change
    state.drain()
    seen += [change.is_set(), state.change.is_set()]

    assert [False, True, False, True, False, True, True, False] == seen


def test_gateway_is_ready_if_every_part_is() -> None:
    """The gateway is ready when no part has a reason why it isn't."""
    state = ready()
    state.add("keys", why=Reason.AUTH_BACKEND_UNAVAILABLE)
    before = state.why_not
    state.report(None, "keys")

    assert ("AUTH_BACKEND_UNAVAILABLE", "") == (before, state.why_not)


def test_change_of_readiness_is_logged() -> None:
    """An event says when the gateway becomes unready and why, and when it is ready."""
    state = ready()
    with capture_logs() as events:
        state.report(Reason.UPSTREAM_TIMEOUT, UPSTREAM)
        state.report(Reason.UPSTREAM_TIMEOUT, UPSTREAM)
        state.report(Reason.GATEWAY_CREDENTIALS_INVALID)
        state.report(None, UPSTREAM)
        state.report(None)

    assert [
        ("unready", "UPSTREAM_TIMEOUT"),
        ("unready", "GATEWAY_CREDENTIALS_INVALID"),
        ("ready", "GATEWAY_CREDENTIALS_INVALID"),
    ] == [(each["event"], each.get("reason") or each["was"]) for each in events]


@pytest.mark.guarantee("readiness")
def test_each_part_has_a_line() -> None:
    """A line has the part's name, reason and fault, with control characters escaped."""
    state = readiness()
    state.add("keys", fault=lambda: "status 401", why=Reason.AUTH_BACKEND_UNAVAILABLE)
    state.add("certificate", fault=lambda: "expired\nlog: ok\x1b[2J")
    state.drain()

    assert [
        "listeners: GATEWAY_DRAINING",
        "aws: GATEWAY_CREDENTIALS_UNAVAILABLE",
        "upstream: ok",
        "keys: AUTH_BACKEND_UNAVAILABLE: status 401",
        r"certificate: expired\nlog: ok\x1b[2J",
    ] == state.lines


# gRPC health


@asynccontextmanager
async def serving(state: Readiness) -> AsyncIterator[str]:
    """Serve the health service over a readiness, and return its address."""
    server = grpc.aio.server()
    Health(state, services=(RUN_SERVICE, *STANDARD)).add_to(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


@asynccontextmanager
async def watched(state: Readiness) -> AsyncIterator[health_pb2_grpc.HealthStub]:
    """Serve the health service over a readiness, and watch a service."""
    async with (
        serving(state) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        yield health_pb2_grpc.HealthStub(channel)


async def check(stub: health_pb2_grpc.HealthStub, service: str) -> int:
    """Return the health of a service."""
    request = health_pb2.HealthCheckRequest(service=service)
    response = await stub.Check(request, timeout=10)
    return int(response.status)


@pytest.mark.guarantee("standard-services")
@pytest.mark.parametrize(
    ("state", "expected"),
    [
        pytest.param(readiness, NOT_SERVING, id="unready"),
        pytest.param(ready, SERVING, id="ready"),
    ],
)
async def test_health_of_the_service_is_readiness(
    state: Callable[[], Readiness], expected: int
) -> None:
    """The process is serving from its start, the service when it is ready."""
    async with watched(state()) as stub:
        assert (SERVING, expected) == (
            await check(stub, ""),
            await check(stub, RUN_SERVICE),
        )


@pytest.mark.parametrize("service", [HEALTH, REFLECTION_V1, REFLECTION_V1ALPHA])
async def test_health_of_a_standard_service_is_that_of_the_process(
    service: str,
) -> None:
    """Standard services don't depend on HealthOmics: they serve until a drain."""
    state = readiness()
    async with watched(state) as stub:
        before = await check(stub, service)
        state.drain()

        assert (SERVING, NOT_SERVING) == (before, await check(stub, service))


async def test_health_stream_has_every_change() -> None:
    """A watcher receives each change of readiness when it comes."""
    state = readiness()
    seen = []
    async with watched(state) as stub:
        watch = stub.Watch(
            health_pb2.HealthCheckRequest(service=RUN_SERVICE), timeout=10
        )
        seen.append((await watch.read()).status)
        for why in (None, INVALID, None):
            state.report(why)
            seen.append((await watch.read()).status)
        watch.cancel()

    assert [NOT_SERVING, SERVING, NOT_SERVING, SERVING] == seen


async def test_health_of_a_draining_gateway_is_not_serving() -> None:
    """While it drains, neither the process nor the service is serving again."""
    state = ready()
    async with watched(state) as stub:
        watch = stub.Watch(
            health_pb2.HealthCheckRequest(service=RUN_SERVICE), timeout=10
        )
        seen = [(await watch.read()).status]
        state.drain()
        seen.append((await watch.read()).status)
        state.report(INVALID)
        state.report(None)
        seen += [await check(stub, ""), await check(stub, RUN_SERVICE)]
        watch.cancel()

    assert [SERVING, NOT_SERVING, NOT_SERVING, NOT_SERVING] == seen


@pytest.mark.guarantee("health-streams")
async def test_health_stream_that_is_not_read_delays_no_other() -> None:
    """A client without a window gets nothing; every other watcher sees each change."""
    state = ready()
    async with (
        serving(state) as address,
        blocking(address, "health-zero"),
        grpc.aio.insecure_channel(address) as channel,
    ):
        stub = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=""), timeout=10)
        seen = [(await watch.read()).status]
        state.drain()
        seen.append((await watch.read()).status)
        watch.cancel()

    assert [SERVING, NOT_SERVING] == seen


async def test_health_of_an_unknown_service() -> None:
    """`Watch` returns SERVICE_UNKNOWN and continues; `Check` fails with NOT_FOUND."""
    async with watched(ready()) as stub:
        watch = stub.Watch(health_pb2.HealthCheckRequest(service="nope"), timeout=10)
        status = (await watch.read()).status
        is_open = not watch.done()
        watch.cancel()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await check(stub, "nope")

    assert (health_pb2.HealthCheckResponse.SERVICE_UNKNOWN, True) == (status, is_open)
    assert grpc.StatusCode.NOT_FOUND == caught.value.code()


# the admin pages


async def unasked() -> Snapshot:
    """Return the state on the status page."""
    return at_rest()


def admin(state: Readiness, **limits: float) -> AdminServer:
    """Return the admin pages, without metrics."""
    off = Metrics(is_on=False)
    pages = AdminPages(state, metrics=off, snapshot=unasked).pages
    return AdminServer(pages, **limits)


@asynccontextmanager
async def pages(state: Readiness) -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    """Serve the admin pages on a free port."""
    served = admin(state)
    port = await served.start("127.0.0.1", 0)
    try:
        async with aiohttp.ClientSession() as session:
            yield session, f"http://127.0.0.1:{port}"
    finally:
        await served.stop()


async def page(state: Readiness, path: str) -> tuple[int, str]:
    """Return one page."""
    async with pages(state) as (session, url):
        return await read(session, url + path)


async def read(session: aiohttp.ClientSession, url: str) -> tuple[int, str]:
    """Return a page of a server."""
    async with session.get(url) as response:
        return response.status, await response.text()


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/statusz"])
async def test_state_is_refreshed_before_each_page(path: str) -> None:
    """A supervisor asks its workers then."""
    refreshed: list[bool] = []

    async def refresh() -> None:
        refreshed.append(True)

    off = Metrics(is_on=False)
    made = AdminPages(ready(), metrics=off, snapshot=unasked, refresh=refresh)
    served = AdminServer(made.pages)
    port = await served.start("127.0.0.1", 0)
    async with aiohttp.ClientSession() as session:
        status, _ = await read(session, f"http://127.0.0.1:{port}{path}")
    await served.stop()

    assert (200, [True]) == (status, refreshed)


def draining() -> Readiness:
    """Return the readiness of a gateway that drains."""
    state = ready()
    state.drain()
    return state


@pytest.mark.parametrize(
    ("state", "answer"),
    [
        pytest.param(
            readiness, (503, "GATEWAY_CREDENTIALS_UNAVAILABLE\n"), id="unready"
        ),
        pytest.param(ready, (200, "ok\n"), id="ready"),
        pytest.param(draining, (503, "GATEWAY_DRAINING\n"), id="draining"),
    ],
)
async def test_readyz_has_the_reason_of_an_unready_gateway(
    state: Callable[[], Readiness], answer: tuple[int, str]
) -> None:
    """`/readyz` is 200, or 503 with the reason."""
    assert answer == await page(state(), "/readyz")


def dead() -> Readiness:
    """Return the readiness of a gateway that no new call can reach."""
    state = ready()
    state.die("its accept loop has ended")
    return state


async def test_livez_fails_if_no_new_call_can_reach_the_gateway() -> None:
    """If no call can arrive, `/livez` and `/readyz` are 503 with the cause."""
    state = dead()
    async with pages(state) as (session, url):
        answers = [
            await read(session, url + path)
            for path in ("/livez", "/livez?verbose", "/readyz", "/readyz?verbose")
        ]

    assert [
        (503, "new calls can't reach the gateway\n"),
        (503, "listeners: its accept loop has ended\n"),
        (503, "GATEWAY_DRAINING\n"),
        (503, f"listeners: GATEWAY_DRAINING: its accept loop has ended\n{REST}"),
    ] == answers


@pytest.mark.parametrize("state", [readiness, ready, draining])
async def test_livez_succeeds_while_the_process_is_alive(
    state: Callable[[], Readiness],
) -> None:
    """`/livez` is 200 even if the gateway isn't ready."""
    assert (200, "ok\n") == await page(state(), "/livez")
    assert (200, "listeners: ok\n") == await page(state(), "/livez?verbose")


async def test_admin_has_no_other_pages() -> None:
    """Other paths are 404."""
    status, _ = await page(ready(), "/other")

    assert 404 == status


async def test_readyz_follows_readiness() -> None:
    """The page has the state at the moment."""
    state = ready()
    seen = []
    async with pages(state) as (session, url):
        for why in (None, INVALID, None):
            state.report(why)
            async with session.get(f"{url}/readyz") as response:
                seen.append(response.status)

    assert [200, 503, 200] == seen


async def test_admin_address_in_use_is_an_os_error() -> None:
    """An address that is in use raises OSError, and no socket stays open."""
    served = admin(ready())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(OSError, match="address already in use"):
            await served.start("127.0.0.1", taken.getsockname()[1])
        await served.stop()


async def test_admin_stops_listening() -> None:
    """After the stop, connections are refused."""
    served = admin(ready())
    port = await served.start("127.0.0.1", 0)
    await served.stop()

    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[asyncio.StreamReader]:
    """Connect to the admin pages, and send nothing."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader
    finally:
        writer.transport.abort()


async def is_cut(reader: asyncio.StreamReader) -> bool:
    """Wait until the server closes a connection without a response."""
    async with asyncio.timeout(10):
        try:
            return await reader.read() == b""
        except ConnectionResetError:
            return True


@pytest.mark.guarantee("admin-connections")
async def test_admin_closes_the_oldest_connection_for_one_too_many() -> None:
    """A new connection is served even if many others are idle."""
    served = admin(ready(), max_connections=4, connection_seconds=60)
    port = await served.start("127.0.0.1", 0)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(served.stop)
        idle = [await stack.enter_async_context(connected(port)) for _ in range(4)]
        session = await stack.enter_async_context(aiohttp.ClientSession())
        answer = await read(session, f"http://127.0.0.1:{port}/livez")

        assert (200, "ok\n") == answer
        assert await is_cut(idle[0])
        assert not idle[3].at_eof()


@pytest.mark.guarantee("admin-connections")
@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"GET /livez HTTP/1.1\r\nHost: a\r\nX-Slow:", id="half-a-head"),
        pytest.param(
            b"GET /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n", id="no-body"
        ),
    ],
)
async def test_admin_connection_has_a_time_limit(sent: bytes) -> None:
    """A connection is closed in time, whichever part of a request its client sent."""
    served = admin(ready(), connection_seconds=0.05)
    port = await served.start("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    async with asyncio.timeout(10):
        with suppress(ConnectionResetError):
            await reader.read()
    writer.close()
    await served.stop()


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"GET http://xn--/livez HTTP/1.1\r\nHost: a\r\n\r\n", id="host"),
        pytest.param(
            b"GET /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n"
            b"Content-Encoding: gzip\r\n\r\nabc",
            id="body",
        ),
    ],
)
async def test_admin_page_needs_no_host_and_no_body(
    caplog: pytest.LogCaptureFixture, sent: bytes
) -> None:
    """A request is answered even if its URL's host or its body can't be decoded."""
    served = admin(ready())
    port = await served.start("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    await served.stop()

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert [] == caplog.records


async def test_malformed_admin_request_is_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Otherwise any client of the address could fill the log."""
    served = admin(ready())
    port = await served.start("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /livez HTTP/1.1\r\n\r\n")  # without a host
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    await served.stop()

    assert answer.startswith(b"HTTP/1.0 400 ")
    assert [] == caplog.records
