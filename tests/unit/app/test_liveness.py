"""How the gateway detects that new calls can't reach it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count, repeat
from pathlib import Path

import grpc
import pytest
import trustme
from hyperframe.frame import SettingsFrame

from healthomics_gateway.app.liveness import (
    TICK_SECONDS,
    Liveness,
    Target,
    accept_loops,
)
from healthomics_gateway.services.health import Health
from healthomics_gateway.services.readiness import Readiness
from healthomics_gateway.tls.reloader import ServerTls
from testkit.authorities import HOST, LOOPBACK, written
from testkit.connections import ConnectionServer

PATIENCE_SECONDS = 30.0
PROBES = 4  # one more than FAILURES
SETTINGS = SettingsFrame().serialize()
ALIVE, DEAD = "alive", "dead"


@asynccontextmanager
async def serving(
    credentials: grpc.ServerCredentials | None = None, *, unix: str = ""
) -> AsyncIterator[tuple[str, asyncio.Task[None]]]:
    """Serve the health service; yield its address and its accept loop."""
    others = accept_loops()
    server = grpc.aio.server()
    Health(Readiness(call_later=lambda *_: None)).add_to(server)
    if credentials:
        port = server.add_secure_port(LOOPBACK, credentials)
    else:
        port = server.add_insecure_port(unix or LOOPBACK)
    await server.start()
    (accepting,) = accept_loops() - others
    try:
        yield unix or f"{HOST}:{port}", accepting
    finally:
        await asyncio.gather(server.stop(None), return_exceptions=True)


async def verdict_on(
    address: str,
    *,
    is_tls: bool = False,
    takes_calls: bool = True,
    accepted: Callable[[], int] = lambda: 0,
    tick_seconds: float = TICK_SECONDS,
) -> str:
    """Probe an address a few times; return whether it counts as dead."""
    probes, enough = 0, asyncio.Event()

    async def sleep(_seconds: float) -> None:
        nonlocal probes
        probes += 1
        if probes > PROBES:
            enough.set()
            await asyncio.Future()

    liveness = Liveness(
        accepted=accepted,
        tick_seconds=tick_seconds,
        sleep=sleep,
    )
    listener = Target(address=address, is_tls=is_tls, takes_calls=takes_calls)
    tasks = [
        asyncio.create_task(each)
        for each in (liveness.probe(listener), liveness.end(), enough.wait())
    ]
    async with asyncio.timeout(PATIENCE_SECONDS):
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    ended = tasks[0].done()
    if ended:
        assert f"{address} doesn't answer" == await tasks[1]
    for each in tasks:
        each.cancel()
    return DEAD if ended else ALIVE


async def test_end_of_an_accept_loop_is_detected() -> None:
    """However the accept loop of gRPC ends, the listener counts as dead."""
    async with serving() as (_, accepting):
        liveness = Liveness(accepted=lambda: 0)
        liveness.watch([accepting])
        accepting.cancel()
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert "its accept loop has ended" == await liveness.end()


async def test_listener_that_answers_is_alive() -> None:
    """A call of the health service is answered."""
    async with serving() as (address, _):
        assert ALIVE == await verdict_on(address)


async def test_probe_accepts_any_certificate(
    tmp_path: Path,
) -> None:
    """The probe sends no secret, so it needs no verification."""
    files = written(trustme.CA().issue_cert("gateway.example.org"), tmp_path)
    async with serving(ServerTls(files).credentials(client_auth="none")) as (
        address,
        _,
    ):
        assert ALIVE == await verdict_on(address, is_tls=True)


async def test_listener_that_requires_certificates_is_alive(tmp_path: Path) -> None:
    """A probe that TLS refuses counts as answered."""
    authority = trustme.CA()
    files = written(authority.issue_cert(HOST), tmp_path, clients=authority)
    async with serving(ServerTls(files).credentials(client_auth="required")) as (
        address,
        _,
    ):
        assert ALIVE == await verdict_on(address, is_tls=True, takes_calls=False)


@pytest.mark.guarantee("liveness")
@pytest.mark.parametrize(
    "verdict", [pytest.param(DEAD, id="idle"), pytest.param(ALIVE, id="busy")]
)
async def test_silent_listener_is_dead_unless_it_accepts_calls(
    verdict: str,
) -> None:
    """Silence counts only if no call is accepted; a busy server may be slow."""
    accepted = count() if verdict == ALIVE else repeat(0)
    async with scripted(SETTINGS) as address:
        reported = await verdict_on(
            address, accepted=lambda: next(accepted), tick_seconds=0.005
        )

    assert verdict == reported


async def test_unix_socket_is_probed(tmp_path: Path) -> None:
    """The address of a listener may be a path."""
    async with serving(unix=f"unix:{tmp_path}/gateway.sock") as (address, _):
        assert ALIVE == await verdict_on(address)


async def test_address_without_a_listener_is_dead() -> None:
    """A refused connection is a failure."""
    async with serving() as (address, _):
        pass

    assert DEAD == await verdict_on(address)


async def test_listener_that_closes_connections_is_not_dead() -> None:
    """At the limit on connections, gRPC closes further ones."""
    async with scripted(None) as address:
        assert ALIVE == await verdict_on(address)


@asynccontextmanager
async def scripted(greeting: bytes | None) -> AsyncIterator[str]:
    """Greet each connection and send no more, or close it without a greeting."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if greeting is not None:
            writer.write(greeting)
            await reader.read()

    async with ConnectionServer(talk) as server:
        yield f"{HOST}:{server.port}"
