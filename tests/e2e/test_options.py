"""The server's channel options, tested by their effect: gRPC ignores unknown ones."""

from __future__ import annotations

import asyncio
import gzip
import socket
import struct
from asyncio import StreamReader, StreamWriter
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType

import grpc
import pytest
import trustme
from grpc import StatusCode

from healthomics.v1.run_service_pb2 import GetRunRequest
from healthomics_gateway.app.gateway import Gateway
from healthomics_gateway.app.grpc_server import OPTIONS
from healthomics_gateway.app.listener import ListenError
from healthomics_gateway.settings.load import load
from testkit.builders import (
    ANYWHERE,
    Sandbox,
    aws_at,
    calling,
    gateway,
    get_run,
    refused,
    sandboxed,
)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7  # frame types
WINDOW_UPDATE = 8
ACK, END_STREAM, END_HEADERS = 1, 1, 4  # flags
NO_ERROR, ENHANCE_YOUR_CALM = 0, 11
REFUSED_STREAM, CANCEL = struct.pack(">I", 7), struct.pack(">I", 8)
INITIAL_WINDOW = struct.pack(">H", 4)  # SETTINGS_INITIAL_WINDOW_SIZE
LARGE_WINDOW = struct.pack(">I", 2**24)
PINGS = 50
NOWHERE = "http://127.0.0.1:9"
PATIENCE_SECONDS = 10.0  # for what must happen soon

CALL_HEADERS = {
    b":method": b"POST",
    b":scheme": b"http",
    b":path": b"/healthomics.v1.RunService/GetRun",
    b":authority": b"localhost",
    b"content-type": b"application/grpc",
    b"te": b"trailers",
}


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return one HTTP/2 frame."""
    head = struct.pack(">I", len(payload))[1:] + bytes((kind, flags))
    return head + struct.pack(">I", stream) + payload


def header_block() -> bytes:
    """Encode a call's headers as literals without indexing (RFC 7541, 6.2.2)."""
    return b"".join(
        b"\0%c%b%c%b" % (len(name), name, len(value), value)
        for name, value in CALL_HEADERS.items()
    )


def request_body() -> bytes:
    """Return a request with gRPC's prefix."""
    message = GetRunRequest(id="1000003").SerializeToString()
    return b"\0" + struct.pack(">I", len(message)) + message


async def next_frame(reader: StreamReader) -> tuple[int, bytes]:
    """Read one frame and return its type and payload."""
    head = await reader.readexactly(9)
    return head[3], await reader.readexactly(int.from_bytes(head[:3]))


async def goaway_code(reader: StreamReader) -> int:
    """Read until GOAWAY and return its error code."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            kind, payload = await next_frame(reader)
            if kind == GOAWAY:
                return int.from_bytes(payload[4:8])


async def wait_until_closed(reader: StreamReader) -> None:
    """Wait until the peer closes the connection, without answering anything."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        try:
            while await reader.read(65_536):
                pass
        except ConnectionError:
            pass


@asynccontextmanager
async def raw_connection(
    served: Gateway,
) -> AsyncIterator[tuple[StreamReader, StreamWriter]]:
    """Open an HTTP/2 connection, and send the preface and the settings."""
    address = served.address
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(PREFACE + frame(SETTINGS, 0, 0))
    try:
        yield reader, writer
    finally:
        writer.close()


@asynccontextmanager
async def gateway_with(
    url: str, *, environ: Mapping[str, str] = MappingProxyType({}), **changed: int
) -> AsyncIterator[Gateway]:
    """Serve with the gateway's options, some of them with other values."""
    options = {name.rpartition(".")[2]: (name, value) for name, value in OPTIONS}
    for name, value in changed.items():
        options[name] = (options[name][0], value)
    flags = {"listen": ANYWHERE, "admin_listen": ANYWHERE}
    settings = load(flags=flags, environ=environ).settings
    served = Gateway(settings, aws_at(url), options=tuple(options.values()))
    await served.start()
    try:
        yield served
    finally:
        await served.stop()


async def test_port_is_not_shared_with_a_second_gateway() -> None:
    """A second gateway on the same port doesn't start."""
    async with Sandbox() as sandbox, gateway(aws_at(sandbox.url)) as served:
        flags = {"listen": str(served.address), "admin_listen": ANYWHERE}
        second = Gateway(load(flags=flags, environ={}).settings, aws_at(sandbox.url))
        with pytest.raises(ListenError, match="it can't be bound"):
            await second.start()
        await second.stop()


@pytest.mark.guarantee("request-limits")
@pytest.mark.parametrize("compression", list(grpc.Compression), ids=str)
async def test_request_over_64_kib_is_refused(compression: grpc.Compression) -> None:
    """The limit of a request applies to its size after decompression."""
    request = GetRunRequest(id="1" * 70_000)
    assert len(gzip.compress(request.SerializeToString())) < 1000
    async with sandboxed() as (stub, sandbox):
        call = stub.GetRun(request, timeout=10, compression=compression)
        failure = await refused(call)

    assert StatusCode.RESOURCE_EXHAUSTED == failure.code
    assert 0 == sandbox.calls


@pytest.mark.guarantee("request-limits")
async def test_metadata_over_8_kib_is_refused() -> None:
    """Metadata up to 8 KiB is always accepted, and more is always refused."""
    request, sizes = GetRunRequest(id="1000003"), (7400, 9000, 12_000, 20_000)
    async with sandboxed() as (stub, _):
        calls = [
            (size, stub.GetRun(request, timeout=10, metadata=(("x-fill", "x" * size),)))
            for size in sizes * 20
        ]
        codes = {(size, await call.code()) for size, call in calls}

    beyond = StatusCode.RESOURCE_EXHAUSTED
    assert {(size, StatusCode.OK if size < 8192 else beyond) for size in sizes} == codes


@pytest.mark.guarantee("rapid-resets")
async def test_connection_limits_concurrent_calls() -> None:
    """A call beyond the concurrent streams of a connection is refused by gRPC."""
    most = 500
    async with (
        Sandbox() as sandbox,
        gateway(aws_at(sandbox.url)) as served,
        raw_connection(served) as (reader, writer),
    ):
        await next_frame(reader)  # its settings, which apply once acknowledged
        writer.write(frame(SETTINGS, ACK, 0))
        for at in range(most + 1):
            writer.write(frame(HEADERS, END_HEADERS, 2 * at + 1, header_block()))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (found := await next_frame(reader))[0] != RESET:
                pass

    assert (RESET, REFUSED_STREAM) == found


async def reset_rapidly(served: Gateway) -> None:
    """Open thousands of calls on one connection, and reset each at once."""
    body = request_body()
    async with raw_connection(served) as (_, writer):
        for stream in range(1, 20_001, 2):
            writer.write(
                frame(HEADERS, END_HEADERS, stream, header_block())
                + frame(DATA, END_STREAM, stream, body)
                + frame(RESET, 0, stream, CANCEL)
            )
            await writer.drain()


@pytest.mark.guarantee("rapid-resets")
async def test_rapid_resets_cost_other_connections_no_call() -> None:
    """Thousands of calls that are reset at once cost another connection no call."""
    async with (
        Sandbox(quota_per_second=0) as sandbox,
        gateway(aws_at(sandbox.url)) as served,
        calling(served) as stub,
    ):
        await get_run(stub, "1000003")
        attacker = asyncio.create_task(reset_rapidly(served))

        async def call_on() -> int:
            for _ in range(20):
                await get_run(stub, "1000003")
            answered = 20
            while not attacker.done():
                await get_run(stub, "1000003")
                answered += 1
            return answered

        answered = await asyncio.gather(*(call_on() for _ in range(10)))
        await asyncio.gather(attacker, return_exceptions=True)

    assert sum(answered) >= 200


class Burst:
    """Concurrent calls on one connection, from a client without an event loop."""

    def __init__(self, served: Gateway, calls: int) -> None:
        """Send the calls, and a ping after them."""
        self._calls = calls
        address = served.address
        self._socket = socket.create_connection((address.host, address.port))
        self._socket.settimeout(PATIENCE_SECONDS)
        self._file = self._socket.makefile("rb")
        self._socket.sendall(
            PREFACE
            + frame(SETTINGS, 0, 0, INITIAL_WINDOW + LARGE_WINDOW)
            + frame(WINDOW_UPDATE, 0, 0, LARGE_WINDOW)
            + b"".join(
                frame(HEADERS, END_HEADERS, stream, header_block())
                + frame(DATA, END_STREAM, stream, request_body())
                for stream in range(1, 2 * calls, 2)
            )
            + frame(PING, 0, 0, bytes(8))
        )

    def wait_until_read(self) -> None:
        """Wait until gRPC has read all calls, as its answer to the ping shows."""
        while self._next_kind() != PING:
            pass

    def answers(self) -> int:
        """Read until each call has ended. Return the number of answered calls."""
        answered = ended = 0
        while ended < self._calls:
            kind = self._next_kind()
            answered += kind == DATA
            ended += kind == RESET or self._is_end
        return answered

    def close(self) -> None:
        """Close the connection."""
        self._file.close()
        self._socket.close()

    def _next_kind(self) -> int:
        head = self._file.read(9)
        self._file.read(int.from_bytes(head[:3]))
        self._is_end = head[3] in (DATA, HEADERS) and bool(head[4] & END_STREAM)
        return head[3]


@pytest.mark.guarantee("rapid-resets")
async def test_calls_that_wait_for_the_event_loop_are_all_answered() -> None:
    """Over 1,000 calls that gRPC reads while the loop is blocked are all answered."""
    calls, connections = 400, 3
    async with (
        Sandbox(quota_per_second=0) as sandbox,
        gateway(aws_at(sandbox.url)) as served,
    ):
        # The gateway runs on this event loop, which these calls block.
        bursts = [Burst(served, calls) for _ in range(connections)]
        for each in bursts:
            each.wait_until_read()
        answered = [await asyncio.to_thread(each.answers) for each in bursts]
        for each in bursts:
            each.close()

    assert [calls] * connections == answered


async def test_ping_flood_ends_the_connection() -> None:
    """Too many pings without a call end the connection with ENHANCE_YOUR_CALM."""
    async with (
        Sandbox() as sandbox,
        gateway(aws_at(sandbox.url)) as served,
        raw_connection(served) as (reader, writer),
    ):
        writer.write(frame(PING, 0, 0, bytes(8)) * PINGS)
        assert ENHANCE_YOUR_CALM == await goaway_code(reader)


async def test_pings_every_10_s_are_answered() -> None:
    """Without a call a ping is allowed every 10 s; gRPC's default is 5 minutes."""
    async with (
        Sandbox() as sandbox,
        gateway_with(sandbox.url, min_ping_interval_without_data_ms=0) as served,
        raw_connection(served) as (reader, writer),
        asyncio.timeout(PATIENCE_SECONDS),
    ):
        kinds: Counter[int] = Counter()
        for number in (PINGS, 1):  # the answer to the last one follows all others
            writer.write(frame(PING, 0, 0, bytes(8)) * number)
            while kinds[PING] < number and not kinds[GOAWAY]:
                kinds[(await next_frame(reader))[0]] += 1
            answered, kinds[PING] = kinds[PING], 0

    assert (1, 0) == (answered, kinds[GOAWAY])


@pytest.mark.guarantee("request-limits")
async def test_peer_without_ping_answer_is_disconnected() -> None:
    """A peer that doesn't answer keepalive pings is disconnected."""
    timers = ("keepalive_time_ms", "ping_timeout_ms")
    async with (
        Sandbox() as sandbox,
        gateway_with(sandbox.url, **dict.fromkeys(timers, 200)) as served,
        raw_connection(served) as (reader, _),
    ):
        await wait_until_closed(reader)


async def test_idle_connection_is_closed() -> None:
    """A connection without calls is closed after max_connection_idle."""
    async with (
        Sandbox() as sandbox,
        gateway_with(sandbox.url, max_connection_idle_ms=300) as served,
        raw_connection(served) as (reader, _),
    ):
        await wait_until_closed(reader)


async def test_old_connection_gets_goaway() -> None:
    """A connection over its maximum age gets GOAWAY, and loses no call."""
    async with (
        Sandbox(quota_per_second=0) as sandbox,
        gateway_with(sandbox.url, max_connection_age_ms=100) as served,
        calling(served) as stub,
        raw_connection(served) as (reader, _),
    ):
        going = asyncio.create_task(goaway_code(reader))
        while not going.done():
            await get_run(stub, "1000003")

    assert NO_ERROR == going.result()


@pytest.mark.guarantee("request-limits")
@pytest.mark.parametrize("with_tls", [False, True], ids=["plaintext", "tls"])
async def test_silent_connection_is_closed(tmp_path: Path, *, with_tls: bool) -> None:
    """A connection that sends nothing is closed after the handshake timeout."""
    environ = {}
    if with_tls:
        file = tmp_path / "pair.pem"
        pair = trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem
        pair.write_to_path(file)
        environ = dict.fromkeys(
            ("GATEWAY_TLS__CERT_FILE", "GATEWAY_TLS__KEY_FILE"), str(file)
        )
    brief = {"server_handshake_timeout_ms": 200}
    async with gateway_with(NOWHERE, environ=environ, **brief) as served:
        address = served.address
        reader, writer = await asyncio.open_connection(address.host, address.port)
        await wait_until_closed(reader)
        writer.close()
