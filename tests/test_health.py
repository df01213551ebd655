"""What others are told of the gateway's state: by gRPC health and the admin pages."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import aiohttp
import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from healthomics_gateway.errors import Reason
from healthomics_gateway.health import SERVICE, AdminPages, Health, Readiness

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
NO_CREDENTIALS = Reason.GATEWAY_CREDENTIALS_UNAVAILABLE
INVALID = Reason.GATEWAY_CREDENTIALS_INVALID
UNTRUSTED = Reason.UPSTREAM_TLS_UNTRUSTED


class Timers:
    """What was asked to be called later, called when the test says so."""

    def __init__(self) -> None:
        """Have nothing to call."""
        self._due: list[tuple[float, Callable[[], None]]] = []
        self._now = 0.0

    def call_later(self, seconds: float, call: Callable[[], None]) -> None:
        """Take note."""
        self._due.append((self._now + seconds, call))

    def go_on(self, seconds: float) -> None:
        """Let time pass, and call what is due."""
        self._now += seconds
        for each in [each for each in self._due if each[0] <= self._now]:
            self._due.remove(each)
            each[1]()


def readiness(timers: Timers | None = None) -> Readiness:
    """A gateway's readiness at its start."""
    return Readiness(call_later=(timers or Timers()).call_later)


def ready() -> Readiness:
    """The readiness of a gateway whose identity works."""
    state = readiness()
    state.report(None)
    return state


# Readiness


def test_gateway_is_unready_until_it_has_credentials() -> None:
    """At the start nothing is known, so the gateway isn't ready."""
    state = readiness()
    at_first = state.why_not
    state.report(None)

    assert ("GATEWAY_CREDENTIALS_UNAVAILABLE", "") == (at_first, state.why_not)


@pytest.mark.parametrize("why", [NO_CREDENTIALS, INVALID, UNTRUSTED])
def test_gateway_is_unready_for_the_last_reason(why: Reason) -> None:
    """What stands between the gateway and AWS is told by its reason."""
    state = ready()
    state.report(why)

    assert why.name == state.why_not


def test_gateway_is_ready_again_once_its_identity_works() -> None:
    """A call that AWS accepts ends the doubt."""
    state = ready()
    state.report(INVALID)
    state.report(None)

    assert "" == state.why_not


@pytest.mark.parametrize("why", [INVALID, UNTRUSTED])
def test_refusal_is_doubted_after_half_a_minute(why: Reason) -> None:
    """After 30 s the gateway is ready again, so that the next call can decide."""
    timers = Timers()
    state = readiness(timers)
    state.report(why)
    timers.go_on(29.9)
    before = state.why_not
    timers.go_on(0.1)

    assert (why.name, "") == (before, state.why_not)


def test_refusal_that_is_repeated_is_doubted_later() -> None:
    """The half minute begins anew with each refusal."""
    timers = Timers()
    state = readiness(timers)
    state.report(INVALID)
    timers.go_on(20)
    state.report(UNTRUSTED)
    timers.go_on(20)
    before = state.why_not
    timers.go_on(10)

    assert (UNTRUSTED.name, "") == (before, state.why_not)


def test_doubt_of_an_old_refusal_does_not_end_a_new_one() -> None:
    """A refusal after a success has its own half minute."""
    timers = Timers()
    state = readiness(timers)
    state.report(INVALID)
    timers.go_on(15)
    state.report(None)
    state.report(INVALID)
    timers.go_on(15)

    assert INVALID.name == state.why_not


def test_missing_credentials_are_not_doubted() -> None:
    """Without credentials no call can succeed: time alone changes nothing."""
    timers = Timers()
    state = readiness(timers)
    state.report(INVALID)
    state.report(NO_CREDENTIALS)
    timers.go_on(3600)

    assert NO_CREDENTIALS.name == state.why_not


def test_draining_is_for_good() -> None:
    """A gateway that drains isn't ready, whatever AWS says."""
    state = ready()
    state.drain()
    state.report(None)

    assert "GATEWAY_DRAINING" == state.why_not


async def is_changed(state: Readiness) -> bool:
    """Tell whether there is a change to be seen, and take note of it."""
    with suppress(TimeoutError):
        async with asyncio.timeout(0):
            await state.changed()
            return True
    return False


async def test_change_is_told_once() -> None:
    """Who waits for a change sees each one, and none where nothing changed."""
    state = readiness()
    seen = []
    for why in (NO_CREDENTIALS, None, None, INVALID, INVALID, UNTRUSTED):
        state.report(why)
        seen.append(await is_changed(state))
    state.drain()
    seen += [await is_changed(state), await is_changed(state)]

    assert [False, True, False, True, False, True, True, False] == seen


# gRPC health


@asynccontextmanager
async def watched(
    state: Readiness,
) -> AsyncIterator[tuple[health_pb2_grpc.HealthStub, Health]]:
    """Serve the health service over a readiness, and follow it."""
    health = Health(state)
    server = grpc.aio.server()
    health.add_to(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    following = asyncio.create_task(health.follow())
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield health_pb2_grpc.HealthStub(channel), health
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await server.stop(0)


async def check(stub: health_pb2_grpc.HealthStub, service: str) -> int:
    """Ask for the health of a service."""
    request = health_pb2.HealthCheckRequest(service=service)
    response = await stub.Check(request, timeout=10)
    return int(response.status)


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
    """The process serves from its start, the service when it is ready."""
    async with watched(state()) as (stub, _):
        assert (SERVING, expected) == (
            await check(stub, ""),
            await check(stub, SERVICE),
        )


async def test_health_is_kept_at_every_change() -> None:
    """A watcher is told of each change of readiness as it comes."""
    state = readiness()
    seen = []
    async with watched(state) as (stub, _):
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE), timeout=10)
        seen.append((await watch.read()).status)
        for why in (None, INVALID, None):
            state.report(why)
            seen.append((await watch.read()).status)
        watch.cancel()

    assert [NOT_SERVING, SERVING, NOT_SERVING, SERVING] == seen


async def test_health_of_a_gateway_that_drains_is_down_for_good() -> None:
    """While it drains neither the process nor the service serves, come what may."""
    state = ready()
    async with watched(state) as (stub, health):
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE), timeout=10)
        seen = [(await watch.read()).status]
        state.drain()
        await health.drain()
        seen.append((await watch.read()).status)
        state.report(INVALID)
        state.report(None)
        seen += [await check(stub, ""), await check(stub, SERVICE)]
        watch.cancel()

    assert [SERVING, NOT_SERVING, NOT_SERVING, NOT_SERVING] == seen


# the admin pages


@asynccontextmanager
async def pages(state: Readiness) -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    """Serve the admin pages on a free port."""
    served = AdminPages(state)
    port = await served.start("127.0.0.1", 0)
    try:
        async with aiohttp.ClientSession() as session:
            yield session, f"http://127.0.0.1:{port}"
    finally:
        await served.stop()


async def page(state: Readiness, path: str) -> tuple[int, str]:
    """Read one page."""
    async with (
        pages(state) as (session, url),
        session.get(url + path) as response,
    ):
        return response.status, await response.text()


def draining() -> Readiness:
    """The readiness of a gateway that drains."""
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
async def test_readyz_tells_why_the_gateway_is_not_ready(
    state: Callable[[], Readiness], answer: tuple[int, str]
) -> None:
    """`/readyz` is 200, or 503 with the reason."""
    assert answer == await page(state(), "/readyz")


@pytest.mark.parametrize("state", [readiness, ready, draining])
async def test_livez_tells_that_the_process_lives(
    state: Callable[[], Readiness],
) -> None:
    """`/livez` is 200 whatever else there is to tell."""
    assert (200, "ok\n") == await page(state(), "/livez")


async def test_admin_has_no_other_pages() -> None:
    """Anything else isn't found."""
    status, _ = await page(ready(), "/")

    assert 404 == status


async def test_readyz_follows_readiness() -> None:
    """The page tells the state of the moment, on the same connection."""
    state = ready()
    seen = []
    async with pages(state) as (session, url):
        for why in (None, INVALID, None):
            state.report(why)
            async with session.get(f"{url}/readyz") as response:
                seen.append(response.status)

    assert [200, 503, 200] == seen


async def test_admin_address_in_use_is_an_os_error() -> None:
    """An address that can't be had is told, and leaves nothing open."""
    served = AdminPages(ready())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(OSError, match="address already in use"):
            await served.start("127.0.0.1", taken.getsockname()[1])
        await served.stop()


async def test_admin_stops_listening() -> None:
    """After the stop nobody is answered."""
    served = AdminPages(ready())
    port = await served.start("127.0.0.1", 0)
    await served.stop()

    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
