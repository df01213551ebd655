"""Tests of one GET over real sockets, with servers that misbehave."""

import asyncio
import contextlib
import gzip
import socket
import ssl
import struct
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from healthomics_gateway.upstream.reply import Failure, Reply
from healthomics_gateway.upstream.transport import Transport, TransportError
from testkit.builders import Upstream, http
from testkit.connections import ConnectionServer, Talk

CAP_BYTES = 1000
SOON_SECONDS = 0.2  # a timeout that a test waits for
LONG_SECONDS = 30.0  # a timeout that isn't reached
ALIVE = b"HTTP/1.1 200 OK\r\nconnection: keep-alive\r\n"
SILENCE = 60.0
UNUSED_CA = trustme.CA()  # an authority that no server here has a certificate of


@contextlib.asynccontextmanager
async def transport(
    *,
    ca_file: Path | None = None,
    max_connections: int = 8,
    connect_seconds: float = LONG_SECONDS,
    attempt_seconds: float = LONG_SECONDS,
) -> AsyncIterator[Transport]:
    """Create a transport that reads at most a thousand bytes of a body."""
    with UNUSED_CA.cert_pem.tempfile() as unused_ca_file:
        opened = Transport(
            ca_file=str(ca_file or unused_ca_file),
            max_connections=max_connections,
            connect_timeout_seconds=connect_seconds,
            attempt_timeout_seconds=attempt_seconds,
            max_body_bytes=CAP_BYTES,
        )
    try:
        yield opened
    finally:
        await opened.close()


async def get(url: str, **options: Any) -> Reply:
    """Send one GET with a new transport, with a timeout of ten seconds."""
    async with asyncio.timeout(10), transport(**options) as opened:
        return await opened.get(url, {})


async def failure_of(url: str, **options: Any) -> Failure:
    """Return the failure that a GET raises."""
    with pytest.raises(TransportError) as caught:
        await get(url, **options)
    assert caught.value.failure.name == str(caught.value)
    return caught.value.failure


@contextlib.asynccontextmanager
async def serving(
    talk: Talk, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    """Serve each connection with `talk`, and yield the URL."""
    async with ConnectionServer(talk, tls=tls) as server:
        yield server.url


@contextlib.asynccontextmanager
async def cutting_handshakes(
    farewell: bytes | None,
) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Answer each ClientHello with bytes, or a reset; yield the URL and the hellos."""
    hellos: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hellos.append(await reader.read(10_000))
        if farewell is None:
            reset(writer)
        else:
            writer.write(farewell)
            await writer.drain()

    async with serving(talk) as url:
        yield url.replace("http:", "https:"), hellos


async def read_head(reader: asyncio.StreamReader) -> bytes:
    """Read the head of a request."""
    return await reader.readuntil(b"\r\n\r\n")


async def client_closed(reader: asyncio.StreamReader) -> None:
    """Wait until the client has closed or reset the connection."""
    with contextlib.suppress(ConnectionError):
        while await reader.read(100):
            pass


def server_tls(ca: trustme.CA, host: str = "127.0.0.1", **dates: Any) -> ssl.SSLContext:
    """Return a TLS context with a certificate for that name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(host, **dates).configure_cert(context)
    return context


def ca_file(ca: trustme.CA, folder: Path) -> Path:
    """Write the authority's certificate to a file."""
    file = folder / "ca.pem"
    ca.cert_pem.write_to_path(file)
    return file


# Requests and responses.


async def test_get_sends_url_and_headers_unchanged() -> None:
    """Path, query and headers are sent unchanged, as they were signed."""
    headers = {"host": "elsewhere.example", "user-agent": "ours", "x-amz-date": "now"}
    async with Upstream(http(b"{}")) as upstream, transport() as opened:
        await opened.get(f"{upstream.url}/run/1%2F..%2f/./2?a=%20b+c&a=~", headers)

    first, *lines = upstream.requests[0].split("\r\n")
    assert "GET /run/1%2F..%2f/./2?a=%20b+c&a=~ HTTP/1.1" == first
    sent = dict(line.lower().split(": ", 1) for line in lines if line)
    assert headers == {name: sent[name] for name in headers}


async def test_reply_has_status_headers_and_body() -> None:
    """The reply has the status, the headers in any case and the body."""
    async with Upstream(http(b"\xff<html>", status=418, X_Amzn_RequestId="a-1")) as up:
        reply = await get(up.url)

    assert (418, b"\xff<html>") == (reply.status, reply.body)
    assert (
        "a-1" == reply.headers["x-amzn-requestid"] == reply.headers["X-AMZN-RequestID"]
    )


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(http(b"{}"), id="length"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n{}", id="until-the-end"),
        pytest.param(
            ALIVE + b"transfer-encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n",
            id="chunks",
        ),
        pytest.param(
            b"HTTP/1.1 100 Continue\r\n\r\n"
            b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\nx-amzn-errortype: A\r\n\r\n"
            + http(b"{}"),
            id="after-1xx",
        ),
        pytest.param(http(b"{}", content_encoding="identity"), id="identity"),
        pytest.param(
            http(b"{}", **{f"h{number}": "a" for number in range(61)}), id="64-headers"
        ),
        pytest.param(http(b"{}", x_long="a" * 8000), id="long-header"),
    ],
)
async def test_body_is_read_with_any_framing(answer: bytes) -> None:
    """A complete body is read with any framing."""
    async with Upstream(answer) as upstream:
        reply = await get(upstream.url)

    assert (200, b"{}") == (reply.status, reply.body)
    assert "x-amzn-errortype" not in reply.headers


async def test_body_of_exactly_the_maximum_is_read() -> None:
    """A body of exactly the maximum size is read."""
    body = b"a" * CAP_BYTES
    async with Upstream(http(body)) as upstream:
        assert body == (await get(upstream.url)).body


async def test_redirects_are_not_followed() -> None:
    """A redirect is returned, and no request is sent to its target."""
    async with Upstream(http(b"{}")) as elsewhere:
        for status in (301, 302, 303, 307, 308):
            answer = http(b"", status=status, location=f"{elsewhere.url}/run/1")
            async with Upstream(answer) as upstream:
                reply = await get(upstream.url)
            assert (status, 1) == (reply.status, len(upstream.requests))

    assert [] == elsewhere.requests


async def test_cookies_are_not_kept() -> None:
    """A cookie that a response sets isn't sent back."""
    answer = http(b"{}", set_cookie="a=b; Path=/")
    async with Upstream(answer) as upstream, transport() as opened:
        url = upstream.url.replace("127.0.0.1", "localhost")
        for _ in range(2):
            await opened.get(url, {})

    assert 2 == len(upstream.requests)
    assert "cookie" not in "".join(upstream.requests).lower()


async def test_proxy_of_the_environment_is_ignored() -> None:
    """The proxy variables of the environment are ignored."""
    program = """
import asyncio, sys
from botocore.httpsession import get_cert_path
from healthomics_gateway.upstream.transport import Transport

async def main():
    transport = Transport(ca_file=get_cert_path(verify=True), max_connections=1,
        connect_timeout_seconds=5, attempt_timeout_seconds=5, max_body_bytes=100)
    print((await transport.get(sys.argv[1], {})).body.decode())
    await transport.close()

asyncio.run(main())
"""
    async with Upstream(http(b"ours")) as upstream, Upstream(http(b"its")) as proxy:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", program, upstream.url),
            env={"http_proxy": proxy.url, "HTTP_PROXY": proxy.url},
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await process.communicate()

    assert b"ours\n" == output
    assert [] == proxy.requests


# Invalid bodies and headers.


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        pytest.param(
            http(gzip.compress(b"{}"), content_encoding="gzip"),
            Failure.COMPRESSED,
            id="gzip",
        ),
        pytest.param(
            http(b"{}", content_encoding="GZIP"), Failure.COMPRESSED, id="any-case"
        ),
        pytest.param(
            http(b"{}", content_encoding="identity, br"), Failure.COMPRESSED, id="two"
        ),
        pytest.param(
            http(b"{}", content_encoding="aws-chunked"), Failure.COMPRESSED, id="odd"
        ),
        pytest.param(
            [http(b"", content_length="1001"), SILENCE],
            Failure.TOO_LARGE,
            id="over-the-cap-declared",
        ),
        pytest.param(
            [ALIVE + b"transfer-encoding: chunked\r\n\r\n"]
            + [b"a\r\nkeep-alive\r\n"] * 101
            + [SILENCE],
            Failure.TOO_LARGE,
            id="over-the-cap-counted",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\n\r\n" + b"a" * 1001,
            Failure.TOO_LARGE,
            id="over-the-cap-at-the-end",
        ),
        pytest.param(
            http(b"{}", keep=False, content_length="3"),
            Failure.CONNECTION,
            id="shorter-than-announced",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n",
            Failure.CONNECTION,
            id="no-last-chunk",
        ),
    ],
)
async def test_unreadable_body_is_a_failure(answer: Any, failure: Failure) -> None:
    """The reply has the status, and the failure in place of a body."""
    async with Upstream(answer, http(b"{}")) as upstream, transport() as opened:
        reply = await opened.get(upstream.url, {})
        clean = await opened.get(upstream.url, {})

    assert (200, failure) == (reply.status, reply.body)
    assert (200, b"{}") == (clean.status, clean.body)
    assert 2 == len(upstream.requests)


async def test_endless_body_is_read_up_to_the_maximum() -> None:
    """The connection is closed when an endless body exceeds the maximum size."""
    has_left = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(ALIVE + b"transfer-encoding: chunked\r\n\r\n")
        try:
            while True:
                writer.write(b"400\r\n" + b"a" * 1024 + b"\r\n")
                await writer.drain()
        except ConnectionError:
            has_left.set()

    async with serving(talk) as url, transport() as opened, asyncio.timeout(10):
        assert Failure.TOO_LARGE is (await opened.get(url, {})).body
        await has_left.wait()


async def test_reset_within_a_body_is_a_connection_failure() -> None:
    """A reset within a body is a failure, and the GET isn't sent again."""
    heads = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await read_head(reader))
        writer.write(ALIVE + b"content-length: 100\r\n\r\n{")
        await writer.drain()
        reset(writer)

    async with serving(talk) as url:
        assert Failure.CONNECTION is (await get(url)).body
    assert 1 == len(heads)


def reset(writer: asyncio.StreamWriter) -> None:
    """Reset a connection."""
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        pytest.param(http(x_long="a" * 8200), Failure.TOO_LARGE, id="long-header"),
        pytest.param(http(**{"a" * 8200: "a"}), Failure.TOO_LARGE, id="long-name"),
        pytest.param(
            b"HTTP/1.1 200 " + b"a" * 8200 + b"\r\n\r\n",
            Failure.TOO_LARGE,
            id="long-status-line",
        ),
        pytest.param(
            http(**{f"h{number}": "a" for number in range(62)}),
            Failure.MALFORMED,
            id="65-headers",
        ),
        pytest.param(b"{}\r\n\r\n", Failure.MALFORMED, id="no-http"),
        pytest.param(b"HTTP/1.1 7 What\r\n\r\n", Failure.MALFORMED, id="no-status"),
        pytest.param(
            ALIVE + b"content-length: -1\r\n\r\n", Failure.MALFORMED, id="no-length"
        ),
        pytest.param(
            ALIVE + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}",
            Failure.MALFORMED,
            id="two-lengths",
        ),
        pytest.param(b"", Failure.CONNECTION, id="nothing"),
        pytest.param(b"HTTP/1.1 200 OK\r\nx: ", Failure.CONNECTION, id="half-a-head"),
    ],
)
async def test_unreadable_head_is_a_failure(answer: bytes, failure: Failure) -> None:
    """A response with an invalid or too large head is a failure, without a replay."""
    async with Upstream(answer) as upstream:
        assert failure is await failure_of(upstream.url)

    assert 1 == len(upstream.requests)


# Connecting.


async def test_refused_port_is_a_connection_failure() -> None:
    """A refused connection is a CONNECTION failure."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    assert Failure.CONNECTION is await failure_of(f"http://127.0.0.1:{port}/")
    assert Failure.CONNECTION is await failure_of(f"https://127.0.0.1:{port}/")


async def test_unresolved_name_is_a_dns_failure() -> None:
    """A name that can't be resolved is a DNS failure."""
    assert Failure.DNS is await failure_of("http://unknown.invalid/")


async def test_connection_that_is_not_accepted_times_out() -> None:
    """Connecting has a timeout of its own."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        with socket.create_connection(address):  # fills the backlog
            found = await failure_of(
                f"http://127.0.0.1:{address[1]}/", connect_seconds=SOON_SECONDS
            )

    assert Failure.TIMEOUT is found


async def test_trusted_certificate_is_accepted(tmp_path: Path) -> None:
    """A certificate of an authority in the CA file is accepted."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(http(b"{}"))
        await writer.drain()

    ca = trustme.CA()
    async with serving(talk, tls=server_tls(ca)) as url:
        assert b"{}" == (await get(url, ca_file=ca_file(ca, tmp_path))).body


NOW = datetime.now(UTC)


@pytest.mark.guarantee("trusted-endpoint")
@pytest.mark.parametrize(
    ("host", "dates", "is_known"),
    [
        pytest.param("127.0.0.1", {}, False, id="unknown-authority"),
        pytest.param("elsewhere.example", {}, True, id="another-host"),
        pytest.param(
            "127.0.0.1", {"not_after": NOW - timedelta(days=1)}, True, id="expired"
        ),
        pytest.param(
            "127.0.0.1", {"not_before": NOW + timedelta(days=1)}, True, id="not-yet"
        ),
    ],
)
async def test_untrusted_certificate_is_sent_nothing(
    tmp_path: Path,
    host: str,
    dates: dict[str, Any],
    is_known: bool,  # noqa: FBT001  # a parameter of the table above
) -> None:
    """No request is sent to a server whose certificate isn't trusted or valid."""
    received = []

    async def talk(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        received.append(await reader.read(100))

    ca = trustme.CA()
    file = ca_file(ca if is_known else trustme.CA(), tmp_path)
    async with serving(talk, tls=server_tls(ca, host, **dates)) as url:
        assert Failure.TLS_UNTRUSTED is await failure_of(url, ca_file=file)

    assert b"" == b"".join(received)


@pytest.mark.parametrize("limit", ["connect_seconds", "attempt_seconds"])
async def test_stalled_handshake_is_a_tls_failure(limit: str) -> None:
    """A handshake that stalls until either timeout is a TLS failure."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}/"
        assert Failure.TLS is await failure_of(url, **{limit: SOON_SECONDS})


@pytest.mark.parametrize(
    "farewell",
    [
        pytest.param(None, id="reset"),
        pytest.param(b"", id="closed"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", id="plaintext"),
        pytest.param(b"\x15\x03\x03\x00\x02\x02\x28", id="alert"),
    ],
)
async def test_cut_handshake_is_a_tls_failure(farewell: bytes | None) -> None:
    """A handshake that is cut is a TLS failure, without a replay."""
    async with cutting_handshakes(farewell) as (url, hellos):
        assert Failure.TLS is await failure_of(url)
    assert 1 == len(hellos)


async def test_silence_after_the_handshake_is_a_timeout(tmp_path: Path) -> None:
    """A timeout after the handshake isn't a TLS failure."""

    async def talk(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    ca = trustme.CA()
    async with serving(talk, tls=server_tls(ca)) as url:
        found = await failure_of(
            url, ca_file=ca_file(ca, tmp_path), attempt_seconds=SOON_SECONDS
        )

    assert Failure.TIMEOUT is found


# Timeouts.

DRIP = [b"x: keep-alive\r\n", 0.02] * 100


@pytest.mark.guarantee("attempt-timeout")
@pytest.mark.parametrize(
    "answer",
    [
        pytest.param([SILENCE], id="silence"),
        pytest.param([ALIVE, SILENCE], id="half-a-head"),
        pytest.param([ALIVE, *DRIP], id="drip-in-the-head"),
        pytest.param([http(content_length="900"), SILENCE], id="head-then-silence"),
        pytest.param([http(content_length="900"), *DRIP[:60]], id="drip-in-the-body"),
        pytest.param(
            [http(status=500, content_length="9"), SILENCE], id="error-without-a-code"
        ),
        pytest.param(
            [b"HTTP/1.1 100 keep-alive\r\n\r\n", 0.02] * 100, id="never-more-than-1xx"
        ),
    ],
)
async def test_whole_attempt_is_bounded(answer: list[bytes | float]) -> None:
    """A slow response ends with the attempt's timeout, and the connection is closed."""
    heads = []
    has_left = asyncio.Event()

    async def drip(writer: asyncio.StreamWriter) -> None:
        for part in answer:
            if isinstance(part, bytes):
                writer.write(part)
            else:
                await asyncio.sleep(part)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await read_head(reader))
        dripping = asyncio.create_task(drip(writer))
        await client_closed(reader)
        dripping.cancel()
        has_left.set()

    async with serving(talk) as url, asyncio.timeout(5):
        assert Failure.TIMEOUT is await failure_of(
            url, attempt_seconds=2 * SOON_SECONDS
        )
        await has_left.wait()
    assert 1 == len(heads)


@pytest.mark.parametrize(
    "attempt_seconds",
    [
        pytest.param(SOON_SECONDS, id="attempt-ends-soon"),
        pytest.param(LONG_SECONDS, id="attempt-ends-late"),
    ],
)
async def test_body_that_stalls_does_not_delay_a_named_error(
    attempt_seconds: float,
) -> None:
    """A body that stalls after a header named the error is awaited for a second."""
    head = http(status=404, content_length="9", x_amzn_errortype="Odd")
    async with Upstream([head, SILENCE]) as upstream, asyncio.timeout(5):
        reply = await get(upstream.url, attempt_seconds=attempt_seconds)
        await upstream.hung_up.wait()

    assert (404, Failure.TIMEOUT) == (reply.status, reply.body)


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        pytest.param(http(b"{}", x_amzn_errortype="Odd"), b"{}", id="whole"),
        pytest.param(
            [
                http(b"", content_length="10", x_amzn_errortype="Odd"),
                0.05,
                b"keep-alive",
            ],
            b"keep-alive",
            id="a-little-late",
        ),
        pytest.param(
            http(b"{}", keep=False, content_length="3", x_amzn_errortype="Odd"),
            Failure.CONNECTION,
            id="cut",
        ),
        pytest.param(
            [http(b"", content_length="9999", x_amzn_errortype="Odd"), SILENCE],
            Failure.TOO_LARGE,
            id="too-large",
        ),
    ],
)
async def test_body_of_a_named_error_is_read(
    answer: Any, body: bytes | Failure
) -> None:
    """The body is read if a header named the error."""
    async with Upstream(answer) as upstream:
        assert body == (await get(upstream.url)).body


@pytest.mark.parametrize(
    "begun",
    [
        pytest.param(b"", id="before-the-head"),
        pytest.param(http(content_length="9") + b"{", id="before-the-end"),
    ],
)
async def test_cancelled_get_closes_its_connection(begun: bytes) -> None:
    """A cancelled GET closes its connection, and the next GET succeeds."""
    has_come, has_left = asyncio.Event(), asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        if has_come.is_set():
            writer.write(http(b"{}"))
            await writer.drain()
            return
        writer.write(begun)
        has_come.set()
        await client_closed(reader)
        has_left.set()

    async with serving(talk) as url, transport() as opened, asyncio.timeout(5):
        task = asyncio.create_task(opened.get(url, {}))
        await has_come.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await has_left.wait()
        assert b"{}" == (await opened.get(url, {})).body


# Rate limiting.


@pytest.mark.guarantee("quota-at-send")
async def test_request_waits_for_its_turn_on_a_ready_connection(
    tmp_path: Path,
) -> None:
    """`depart` is awaited after the handshake, immediately before the send."""
    ca = trustme.CA()
    connected, may_leave, read = asyncio.Event(), asyncio.Event(), bytearray()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()  # and TLS is ready
        read.extend(await reader.readuntil(b"\r\n\r\n"))
        assert may_leave.is_set()
        writer.write(http(b"{}"))
        await client_closed(reader)

    async def depart() -> None:
        await connected.wait()
        assert b"" == read
        may_leave.set()

    async with (
        serving(talk, tls=server_tls(ca)) as url,
        transport(ca_file=ca_file(ca, tmp_path)) as opened,
        asyncio.timeout(5),
    ):
        reply = await opened.get(url, {}, depart=depart)

    assert b"{}" == reply.body


@pytest.mark.guarantee("quota-at-send")
async def test_replay_waits_for_its_turn_too() -> None:
    """`depart` is awaited once for each request that is sent, replays included."""
    departed = 0

    async def depart() -> None:
        nonlocal departed
        departed += 1

    answers = [http(b"{}"), b"", http(b"{}")] * 3
    async with Upstream(*answers) as upstream, transport() as opened:
        for _ in range(6):
            await opened.get(upstream.url, {}, depart=depart)

    assert 9 == departed == len(upstream.requests)


# Connections that are kept alive.


async def test_closed_kept_alive_connection_causes_one_replay() -> None:
    """A GET on a kept-alive connection that closes is sent again once."""
    answers = [http(b"{}"), b"", http(b"{}")] * 100
    async with Upstream(*answers) as upstream, transport() as opened:
        replies = [await opened.get(upstream.url, {}) for _ in range(200)]

    assert [b"{}"] * 200 == [reply.body for reply in replies]
    assert 300 == len(upstream.requests)


async def test_connection_that_closes_while_idle_is_not_used() -> None:
    """A kept-alive connection that closes while idle isn't used."""
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
    async with Upstream(answer) as upstream, transport() as opened:
        replies = [await opened.get(upstream.url, {}) for _ in range(100)]

    assert [b"{}"] * 100 == [reply.body for reply in replies]
    assert 100 == len(upstream.requests)


async def test_new_connection_that_closes_is_not_replayed() -> None:
    """A GET that is lost on a new connection isn't sent again."""
    async with Upstream(b"") as upstream:
        assert Failure.CONNECTION is await failure_of(upstream.url)

    assert 1 == len(upstream.requests)


async def test_replay_that_is_lost_is_not_replayed() -> None:
    """A replay that is lost isn't sent again."""
    async with Upstream(http(b"{}"), b"") as upstream, transport() as opened:
        await opened.get(upstream.url, {})
        with pytest.raises(TransportError) as caught:
            await opened.get(upstream.url, {})

    assert Failure.CONNECTION is caught.value.failure
    assert 3 == len(upstream.requests)


async def test_replay_uses_a_new_connection() -> None:
    """A replay uses a new connection."""
    kept = 4
    together = asyncio.Barrier(kept)
    connections, requests = 0, 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections, requests
        connections += 1
        is_first = connections <= kept
        await read_head(reader)
        requests += 1
        if is_first:
            await together.wait()
        writer.write(http(b"{}"))
        await read_head(reader)
        requests += 1  # then the connection closes

    async with serving(talk) as url, transport() as opened:
        await asyncio.gather(*(opened.get(url, {}) for _ in range(kept)))
        for _ in range(kept):
            assert b"{}" == (await opened.get(url, {})).body

    assert (kept + kept, kept + 2 * kept) == (connections, requests)


@pytest.mark.guarantee("invalid-bodies")
@pytest.mark.parametrize("is_later", [False, True], ids=["at-once", "later"])
async def test_unrequested_bytes_are_not_taken_for_a_response(
    *, is_later: bool
) -> None:
    """Bytes after a response aren't taken for the next response."""
    unasked, true = http(b'{"un": "asked"}'), http(b"{}")
    was_said = asyncio.Event()
    connections = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await read_head(reader)
        writer.write(true if is_later else true + unasked)
        if is_later:
            await is_read.wait()
            writer.write(unasked)
        was_said.set()
        await read_head(reader)
        writer.write(true)

    is_read = asyncio.Event()
    async with serving(talk) as url, transport() as opened, asyncio.timeout(10):
        first = await opened.get(url, {})
        is_read.set()
        await was_said.wait()
        for _ in range(20):  # turns of the loop, until the bytes arrive
            await asyncio.sleep(0)
        second = await opened.get(url, {})

    assert (b"{}", b"{}") == (first.body, second.body)
    assert 2 == connections


async def test_connections_are_reused_and_limited() -> None:
    """GETs beyond the maximum number of connections wait for a free one."""
    connections = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            await read_head(reader)
            writer.write(http(b"{}"))

    async with serving(talk) as url, transport(max_connections=2) as opened:
        replies = await asyncio.gather(*(opened.get(url, {}) for _ in range(20)))

    assert [b"{}"] * 20 == [reply.body for reply in replies]
    assert 2 == connections


async def test_close_closes_kept_alive_connections() -> None:
    """A closed transport has no open connections."""
    has_left = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(http(b"{}"))
        await client_closed(reader)
        has_left.set()

    async with serving(talk) as url, asyncio.timeout(5):
        await get(url)
        await has_left.wait()
