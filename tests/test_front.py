"""TLS that ends before gRPC: who is let in, as whom, and how connections end."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest
import trustme
import uvloop
from structlog.testing import capture_logs

from authorities import (
    DAY,
    HANG,
    HOST,
    MAX_CONNECTIONS,
    Clock,
    channel_to,
    echo,
    echo_over,
    echoing,
    echoing_behind_front,
    expired,
    nothing_lost,
    own_pem,
    premature,
    root_of,
    shake,
    shaking,
    write,
    written,
)
from healthomics_gateway.certificates import TlsFiles
from healthomics_gateway.front import ENDING_SECONDS, FULL_SECONDS, Front
from healthomics_gateway.tls import Client, ServerTls
from support import refused

BIG = 64_000_000  # bytes: more than every buffer on the way takes
CHUNK = 64_000
TURNS = 2 * BIG // CHUNK  # of the loop: enough to carry it all
RESETTING = struct.pack("ii", 1, 0)  # a connection that is closed
BOTH_WAYS = pytest.mark.parametrize(
    "is_up", [pytest.param(True, id="up"), pytest.param(False, id="down")]
)


def asking(authority: trustme.CA, clients: trustme.CA, folder: Path) -> TlsFiles:
    """Write what a server needs that asks for certificates of `clients`."""
    certificate = authority.issue_cert(HOST, "::1")
    return written(certificate, folder, clients=clients, client_auth="optional")


async def test_client_without_a_certificate_is_let_in(tmp_path: Path) -> None:
    """Who shows none calls as nobody, from where it is."""
    authority = trustme.CA()
    async with echoing_behind_front(asking(authority, authority, tmp_path)) as served:
        answer = await echo(served.address, root_of(authority))
        (client,) = served.echo.clients

    assert b"echo" == answer
    assert client
    assert None is client.certificate
    assert client.peer.startswith(f"ipv4:{HOST}:")


async def test_client_with_a_certificate_is_known(tmp_path: Path) -> None:
    """The certificate that was verified is told, in the form of gRPC's own TLS."""
    authority, clients = trustme.CA(), trustme.CA()
    shown = clients.issue_cert("caller@example.org")
    async with echoing_behind_front(asking(authority, clients, tmp_path)) as served:
        await echo(served.address, root_of(authority), shown)
        (client,) = served.echo.clients

    assert client
    assert own_pem(shown) == client.certificate


async def test_calls_of_a_connection_are_its_own(tmp_path: Path) -> None:
    """Each of many connections keeps its certificate and its peer."""
    authority, clients = trustme.CA(), trustme.CA()
    shown = [None, *(clients.issue_cert(f"{n}@example.org") for n in range(8))]
    async with (
        echoing_behind_front(asking(authority, clients, tmp_path)) as served,
        AsyncExitStack() as stack,
    ):
        channels = [
            await stack.enter_async_context(
                channel_to(served.address, root_of(authority), each)
            )
            for each in shown
        ]
        for channel in channels * 2:
            await echo_over(channel)
        seen = [client for client in served.echo.clients if client]

    expected = [own_pem(each) if each else None for each in shown] * 2
    assert expected == [client.certificate for client in seen]
    assert len(shown) == len({client.peer for client in seen})


async def test_client_with_a_bad_certificate_is_not_let_in(tmp_path: Path) -> None:
    """A certificate that is shown must verify: nobody is let in as nobody instead."""
    authority, clients = trustme.CA(), trustme.CA()
    bad = (trustme.CA().issue_cert("a"), expired(clients), premature(clients))
    async with echoing_behind_front(asking(authority, clients, tmp_path)) as served:
        codes = [
            (await refused(echo(served.address, root_of(authority), shown))).code
            for shown in bad
        ]

    assert [grpc.StatusCode.UNAVAILABLE] * len(bad) == codes
    assert [] == served.echo.clients


@pytest.mark.parametrize(
    ("host", "callers"),
    [
        pytest.param("127.0.0.1", ["127.0.0.1"], id="IPv4"),
        pytest.param("::1", ["[::1]"], id="IPv6"),
        pytest.param("::", ["127.0.0.1", "[::1]"], id="both"),
    ],
)
async def test_peer_is_named_as_grpc_names_it(
    tmp_path: Path, host: str, callers: list[str]
) -> None:
    """The log and the limits see the same names, whoever ends TLS."""
    authority = trustme.CA()
    files = asking(authority, authority, tmp_path)
    hosts = []
    for serving in (
        echoing_behind_front(files, host=host),
        echoing(files, host=f"[{host}]" if ":" in host else host),
    ):
        async with serving as served:
            for caller in callers:
                await echo(f"{caller}:{served.port}", root_of(authority))
            seen = [client for client in served.echo.clients if client]
            hosts.append([client.peer.rpartition(":")[0] for client in seen])

    assert len(callers) == len(hosts[0])
    assert hosts[0] == hosts[1]


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
async def test_tls_of_today_is_spoken(tmp_path: Path, version: str) -> None:
    """TLS 1.2 and 1.3 are served."""
    authority = trustme.CA()
    context = shaking(authority, version=ssl.TLSVersion[version])
    async with echoing_behind_front(asking(authority, authority, tmp_path)) as served:
        shaken = await shake(served.port, context)

    assert shaken
    assert version.replace("_", ".") == shaken.version


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_tls_of_the_past_is_not_spoken(tmp_path: Path) -> None:
    """A client of TLS 1.1 is refused."""
    authority = trustme.CA()
    context = shaking(authority, version=ssl.TLSVersion.TLSv1_1)
    async with echoing_behind_front(asking(authority, authority, tmp_path)) as served:
        assert None is await shake(served.port, context)


@pytest.mark.parametrize("alpn", [(), ("http/1.1",)])
async def test_client_of_another_protocol_is_refused(
    tmp_path: Path, alpn: tuple[str, ...]
) -> None:
    """As with gRPC's own TLS, a client must say that it speaks HTTP/2."""
    authority = trustme.CA()
    files = asking(authority, authority, tmp_path)
    async with echoing_behind_front(files) as behind, echoing(files) as served:
        context = shaking(authority, alpn=alpn)
        shaken = [await shake(each.port, context) for each in (behind, served)]

    assert [None, None] == shaken


async def test_refusal_is_in_the_log(tmp_path: Path) -> None:
    """Why a client isn't let in can be read, at the level `debug`."""
    authority, clients = trustme.CA(), trustme.CA()
    files = asking(authority, clients, tmp_path)
    with capture_logs() as log:
        async with echoing_behind_front(files) as served:
            await shake(served.port, shaking(authority, expired(clients)))
    (event,) = log

    assert ("connection_refused", "debug") == (event["event"], event["log_level"])
    assert event["peer"].startswith(f"ipv4:{HOST}:")
    assert "certificate has expired" == event["why"]


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
async def test_there_are_no_tickets(tmp_path: Path, version: str) -> None:
    """A session that is resumed by a ticket would skip the check of a certificate."""
    authority = trustme.CA()
    context = shaking(
        authority, authority.issue_cert("a"), version=ssl.TLSVersion[version]
    )
    async with echoing_behind_front(asking(authority, authority, tmp_path)) as served:
        shaken = await shake(served.port, context)

    assert shaken
    assert shaken.session
    assert not shaken.session.has_ticket


async def test_weak_ciphers_of_tls_1_2_are_not_spoken(tmp_path: Path) -> None:
    """HTTP/2 forbids those that gRPC's own TLS doesn't speak, either."""
    authority = trustme.CA()
    files = asking(authority, authority, tmp_path)
    weak, good = (
        shaking(authority, version=ssl.TLSVersion.TLSv1_2, ciphers=ciphers)
        for ciphers in ("ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256")
    )
    async with echoing_behind_front(files) as behind, echoing(files) as served:
        let_in = [
            [bool(await shake(each.port, context)) for each in (behind, served)]
            for context in (weak, good)
        ]

    assert [[False, False], [True, True]] == let_in


async def test_client_of_an_authority_below_is_let_in(tmp_path: Path) -> None:
    """As with gRPC's own TLS, an authority of clients may stand below another."""
    authority, root = trustme.CA(), trustme.CA()
    clients = root.create_child_ca()
    shown, sibling = clients.issue_cert("a"), root.create_child_ca().issue_cert("b")
    async with echoing_behind_front(asking(authority, clients, tmp_path)) as served:
        let_in = await shake(served.port, shaking(authority, shown))
        not_let_in = await shake(served.port, shaking(authority, sibling))

    assert let_in
    assert None is not_let_in


async def test_resumed_session_ends_with_its_certificate(tmp_path: Path) -> None:
    """OpenSSL resumes those of TLS 1.2, but not beyond the certificate's last day."""
    authority, clock = trustme.CA(), Clock()
    shown = authority.issue_cert("a", not_after=clock() + DAY)
    context = shaking(authority, shown, version=ssl.TLSVersion.TLSv1_2)
    files = asking(authority, authority, tmp_path)
    async with echoing_behind_front(files, now=clock) as served:
        first = await shake(served.port, context)
        assert first
        resumed = await shake(served.port, context, first.session)
        clock.off = 2 * DAY
        late = await shake(served.port, context, first.session)

    assert resumed
    assert resumed.is_resumed
    assert None is late


async def test_new_handshakes_use_what_replaced_the_files(tmp_path: Path) -> None:
    """Certificate and authority of clients are followed; who is there stays."""
    authority, before, after = trustme.CA(), trustme.CA(), trustme.CA()
    old, new = before.issue_cert("old"), after.issue_cert("new")
    files = asking(authority, before, tmp_path)
    assert files.client_ca_file
    trusted = root_of(authority)
    replacement = authority.issue_cert(HOST)
    async with (
        echoing_behind_front(files) as served,
        channel_to(served.address, trusted, old) as channel,
    ):
        await echo_over(channel)
        write(replacement, tmp_path)
        files.client_ca_file.write_bytes(root_of(after))
        await served.look()
        shaken = await shake(served.port, shaking(authority))
        told = await refused(echo(served.address, trusted, old))
        await echo(served.address, trusted, new)
        await echo_over(channel)
        seen = [client for client in served.echo.clients if client]

    assert shaken
    assert own_pem(replacement) == shaken.certificate
    assert grpc.StatusCode.UNAVAILABLE is told.code
    expected = [own_pem(each) for each in (old, new, old)]
    assert expected == [client.certificate for client in seen]


async def test_stranger_behind_the_front_is_nobody(tmp_path: Path) -> None:
    """Who reaches gRPC without the front is told from its clients."""
    authority = trustme.CA()
    files = asking(authority, authority, tmp_path)
    async with echoing_behind_front(files) as served:
        assert served.front
        async with grpc.aio.insecure_channel(served.front.inner) as channel:
            await echo_over(channel)

    assert [None] == served.echo.clients


async def test_folder_is_private_and_goes(tmp_path: Path) -> None:
    """Nobody else can enter it; it holds one socket, and nothing stays behind."""
    authority = trustme.CA()
    files = asking(authority, authority, tmp_path)
    async with echoing_behind_front(files) as served:
        assert served.front
        inner = Path(served.front.inner.removeprefix("unix:"))
        await echo(served.address, root_of(authority))
        mode, names = inner.parent.stat().st_mode, [*inner.parent.iterdir()]

    assert 0o40700 == mode
    assert [inner] == names
    assert not inner.parent.exists()


async def test_connections_are_bounded(tmp_path: Path) -> None:
    """One too many waits until another has ended; what ended is forgotten."""
    authority = trustme.CA()
    files = asking(authority, authority, tmp_path)
    async with echoing_behind_front(files, max_connections=1) as served:
        async with channel_to(served.address, root_of(authority)) as channel:
            await echo_over(channel)
            waiting = asyncio.create_task(echo(served.address, root_of(authority)))
            await echo_over(channel)
            assert not waiting.done()
        await waiting
        first, again, last = [each.peer for each in served.echo.clients if each]
        served.echo.clients.clear()
        kept = [each for each in gc.get_objects() if isinstance(each, Client)]

    assert first == again != last
    assert first not in {client.peer for client in kept}


async def test_client_that_says_nothing_is_cut(tmp_path: Path) -> None:
    """A handshake may take only so long."""
    authority = trustme.CA()
    files = asking(authority, authority, tmp_path)
    async with echoing_behind_front(files, handshake_seconds=0.01) as served:
        reader, writer = await asyncio.open_connection(HOST, served.port)
        assert b"" == await reader.read()
        writer.close()


async def test_process_without_files_accepts_later(tmp_path: Path) -> None:
    """Who comes while no more files can be opened waits, and is served then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    pauses = []

    async def sleep(seconds: float) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        pauses.append(seconds)

    async with fronting(tmp_path, max_connections=1, sleep=sleep) as raw:
        connection = socket.socket()
        connection.settimeout(0)
        first_free = os.dup(0)
        os.close(first_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (first_free, hard))
        await asyncio.get_running_loop().sock_connect(connection, (HOST, raw.port))
        async with raw.connected(sock=connection) as (client, server):
            client.writer.write(b"here")
            assert b"here" == await server.reader.readexactly(4)

    assert [FULL_SECONDS] == pauses


@BOTH_WAYS
async def test_all_bytes_arrive_before_the_end(tmp_path: Path, *, is_up: bool) -> None:
    """Who ends a connection well has said everything to the other side."""
    said = os.urandom(1_000_000) * (BIG // 1_000_000)
    async with fronting(tmp_path) as raw, raw.connected() as sides:
        speaker, listener = sides if is_up else reversed(sides)
        speaker.writer.write(said)
        speaker.writer.close()
        heard = await listener.reader.read()

    assert said == heard


@BOTH_WAYS
async def test_no_more_is_taken_than_is_read(tmp_path: Path, *, is_up: bool) -> None:
    """Who doesn't read holds up who writes, and no bytes gather in between."""
    async with fronting(tmp_path) as raw, raw.connected() as sides:
        speaker, listener = sides if is_up else reversed(sides)
        written_on: list[int] = []
        talking = asyncio.create_task(talk(speaker.writer, written_on))
        for _ in range(TURNS):
            await asyncio.sleep(0)
        let_through = sum(written_on)
        heard = len(await listener.reader.read())
        await talking

    assert BIG / 2 > let_through
    assert BIG == heard


@BOTH_WAYS
async def test_cut_connection_is_cut_on_both_sides(
    tmp_path: Path, *, is_up: bool
) -> None:
    """Where one side is gone the other learns of it at once."""
    async with fronting(tmp_path) as raw, raw.connected() as sides:
        speaker, listener = sides if is_up else reversed(sides)
        speaker.writer.transport.abort()
        async with asyncio.timeout(ENDING_SECONDS / 2):
            with suppress(ConnectionError):
                assert b"" == await listener.reader.read()


async def test_reset_connection_is_cut_at_once(tmp_path: Path) -> None:
    """A client that resets its connection leaves no other side that lingers."""
    async with fronting(tmp_path) as raw, raw.connected() as (client, server):
        connection = client.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESETTING)
        client.writer.transport.abort()
        async with asyncio.timeout(ENDING_SECONDS / 2):
            with suppress(ConnectionError):
                assert b"" == await server.reader.read()


async def test_call_of_a_client_that_is_gone_is_given_up(tmp_path: Path) -> None:
    """A connection that is cut ends the calls that came over it."""
    authority = trustme.CA()
    files = asking(authority, authority, tmp_path)
    async with echoing_behind_front(files) as served:
        async with channel_to(served.address, root_of(authority)) as channel:
            hanging = asyncio.create_task(echo_over(channel, HANG))
            await served.echo.hung.wait()
            hanging.cancel()
        await served.echo.given_up.wait()


async def test_stop_cuts_what_is_there(tmp_path: Path) -> None:
    """Connections end, and the port is free, when the front stops."""
    async with fronting(tmp_path) as raw, raw.connected() as (client, _):
        await raw.front.stop()
        with suppress(ConnectionError):
            assert b"" == await client.reader.read()
        with closing(socket.create_server((HOST, raw.port))):
            pass


async def test_address_in_use_is_told(tmp_path: Path) -> None:
    """Where the address can't be had, nothing listens."""
    async with fronting(tmp_path) as raw:
        other = Front(raw.tls.context, max_connections=1)
        with pytest.raises(OSError, match="in use"):
            await other.start(HOST, raw.port)
        await other.stop()


@pytest.mark.parametrize(
    "behaviour",
    [
        test_client_without_a_certificate_is_let_in,
        test_client_with_a_bad_certificate_is_not_let_in,
        test_calls_of_a_connection_are_its_own,
        test_new_handshakes_use_what_replaced_the_files,
        test_connections_are_bounded,
        test_client_that_says_nothing_is_cut,
        test_reset_connection_is_cut_at_once,
        test_call_of_a_client_that_is_gone_is_given_up,
        test_stop_cuts_what_is_there,
        partial(test_all_bytes_arrive_before_the_end, is_up=True),
        partial(test_all_bytes_arrive_before_the_end, is_up=False),
        partial(test_no_more_is_taken_than_is_read, is_up=True),
        partial(test_no_more_is_taken_than_is_read, is_up=False),
    ],
)
def test_front_behaves_alike_on_uvloop(
    tmp_path: Path, behaviour: Callable[[Path], Coroutine[Any, Any, None]]
) -> None:
    """The loop that is served on where it is installed carries connections as well."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(behaviour(tmp_path))


async def talk(writer: asyncio.StreamWriter, written_on: list[int]) -> None:
    """Write as much as is taken, and count it."""
    for _ in range(BIG // CHUNK):
        writer.write(bytes(CHUNK))
        await writer.drain()
        written_on.append(CHUNK)
    writer.close()


class Side(NamedTuple):
    """One side of a connection through a front."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


@dataclass(slots=True)
class Raw:
    """A front before a server of bytes."""

    front: Front
    tls: ServerTls
    port: int
    authority: trustme.CA
    inner: asyncio.Queue[Side] = field(default_factory=asyncio.Queue)

    def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a connection at the inner server."""
        self.inner.put_nowait(Side(reader, writer))

    @asynccontextmanager
    async def connected(
        self, sock: socket.socket | None = None
    ) -> AsyncIterator[tuple[Side, Side]]:
        """Connect, over a socket that is connected if there is one: client, server."""
        place = {"sock": sock} if sock else {"host": HOST, "port": self.port}
        client = Side(
            *await asyncio.open_connection(
                **place, ssl=shaking(self.authority), server_hostname=HOST
            )
        )
        server = await self.inner.get()
        try:
            yield client, server
        finally:
            for side in (client, server):
                if not side.writer.is_closing():
                    side.writer.transport.abort()


@asynccontextmanager
async def fronting(
    folder: Path, *, max_connections: int = MAX_CONNECTIONS, **given: Any
) -> AsyncIterator[Raw]:
    """Serve a front before a server of bytes; `given` goes to the front."""
    authority = trustme.CA()
    tls = ServerTls(asking(authority, authority, folder))
    front = Front(tls.context, max_connections=max_connections, **given)
    raw = Raw(front, tls, 0, authority)
    path = front.inner.removeprefix("unix:")
    server = await asyncio.start_unix_server(raw.take, path)
    raw.port = await front.start(HOST, 0)
    with nothing_lost():
        try:
            yield raw
        finally:
            server.close()
            await front.stop()
