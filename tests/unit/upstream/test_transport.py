"""One GET over real sockets, against servers that lie, stall and leave."""

import asyncio
import contextlib
import gzip
import socket
import ssl
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from healthomics_gateway.upstream.reply import Failure, Reply
from healthomics_gateway.upstream.transport import Transport, TransportError
from testkit.builders import Upstream, http

CAP_BYTES = 1000
SOON_SECONDS = 0.2  # a time limit that is waited for
LONG_SECONDS = 30.0  # one that isn't
ALIVE = b"HTTP/1.1 200 OK\r\nconnection: keep-alive\r\n"
SILENCE = 60.0
NOBODY = trustme.CA()  # the authority that vouches for no server here

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def transport(
    *,
    ca_file: Path | None = None,
    max_connections: int = 8,
    connect_seconds: float = LONG_SECONDS,
    attempt_seconds: float = LONG_SECONDS,
) -> AsyncIterator[Transport]:
    """Opens a transport that reads a thousand bytes at most."""
    with NOBODY.cert_pem.tempfile() as nobody:
        opened = Transport(
            ca_file=str(ca_file or nobody),
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
    """Makes one GET over a transport of its own, in ten seconds at most."""
    async with asyncio.timeout(10), transport(**options) as opened:
        return await opened.get(url, {})


async def failure_of(url: str, **options: Any) -> Failure:
    """Returns why there must be no answer."""
    with pytest.raises(TransportError) as caught:
        await get(url, **options)
    assert caught.value.failure.name == str(caught.value)
    return caught.value.failure


@contextlib.asynccontextmanager
async def serving(
    talk: Talk, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    """Lets `talk` hold each connection, and yields where to call it."""
    tasks: set[asyncio.Task[Any] | None] = set()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        try:
            await talk(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has left
        finally:
            writer.close()

    server = await asyncio.start_server(hold, "127.0.0.1", 0, ssl=tls)
    scheme = "https" if tls else "http"
    try:
        yield f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        held = [task for task in tasks if task]
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)


async def read_head(reader: asyncio.StreamReader) -> bytes:
    """Reads one request."""
    return await reader.readuntil(b"\r\n\r\n")


async def departure(reader: asyncio.StreamReader) -> None:
    """Waits until the client has left, politely or not."""
    with contextlib.suppress(ConnectionError):
        while await reader.read(100):
            pass


def server_tls(ca: trustme.CA, host: str = "127.0.0.1", **dates: Any) -> ssl.SSLContext:
    """Has the authority vouch for a server of that name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(host, **dates).configure_cert(context)
    return context


def ca_file(ca: trustme.CA, folder: Path) -> Path:
    """Writes the authority's certificate into a file."""
    file = folder / "ca.pem"
    ca.cert_pem.write_to_path(file)
    return file


# What is asked, and what is answered.


async def test_get_sends_url_and_headers_as_they_are() -> None:
    """Nothing that was signed is written anew: path, query and headers are ours."""
    headers = {"host": "elsewhere.example", "user-agent": "ours", "x-amz-date": "now"}
    async with Upstream(http(b"{}")) as upstream, transport() as opened:
        await opened.get(f"{upstream.url}/run/1%2F..%2f/./2?a=%20b+c&a=~", headers)

    first, *lines = upstream.requests[0].split("\r\n")
    assert "GET /run/1%2F..%2f/./2?a=%20b+c&a=~ HTTP/1.1" == first
    sent = dict(line.lower().split(": ", 1) for line in lines if line)
    assert headers == {name: sent[name] for name in headers}


async def test_answer_is_given_as_it_came() -> None:
    """Status, headers in any case, and body are handed on, whatever they say."""
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
async def test_body_is_read_however_it_is_framed(answer: bytes) -> None:
    """A whole body is a whole body."""
    async with Upstream(answer) as upstream:
        reply = await get(upstream.url)

    assert (200, b"{}") == (reply.status, reply.body)
    assert "x-amzn-errortype" not in reply.headers


async def test_body_of_exactly_the_cap_is_read() -> None:
    """The cap is the size of the largest body that is read."""
    body = b"a" * CAP_BYTES
    async with Upstream(http(body)) as upstream:
        assert body == (await get(upstream.url)).body


async def test_redirects_are_not_followed() -> None:
    """A redirect is an answer like any other: where it points sees nothing."""
    async with Upstream(http(b"{}")) as elsewhere:
        for status in (301, 302, 303, 307, 308):
            answer = http(b"", status=status, location=f"{elsewhere.url}/run/1")
            async with Upstream(answer) as upstream:
                reply = await get(upstream.url)
            assert (status, 1) == (reply.status, len(upstream.requests))

    assert [] == elsewhere.requests


async def test_cookies_are_not_kept() -> None:
    """What an answer sets as a cookie isn't sent back."""
    answer = http(b"{}", set_cookie="a=b; Path=/")
    async with Upstream(answer) as upstream, transport() as opened:
        url = upstream.url.replace("127.0.0.1", "localhost")
        for _ in range(2):
            await opened.get(url, {})

    assert 2 == len(upstream.requests)
    assert "cookie" not in "".join(upstream.requests).lower()


async def test_proxy_of_the_environment_is_not_asked() -> None:
    """The variables that send other programs through a proxy don't count."""
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


# Bodies and headers that lie.


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
async def test_body_that_is_not_to_be_had_is_a_failure(
    answer: Any, failure: Failure
) -> None:
    """The answer's head is given, with what is wrong with its body."""
    async with Upstream(answer, http(b"{}")) as upstream, transport() as opened:
        reply = await opened.get(upstream.url, {})
        clean = await opened.get(upstream.url, {})

    assert (200, failure) == (reply.status, reply.body)
    assert (200, b"{}") == (clean.status, clean.body)
    assert 2 == len(upstream.requests)


async def test_endless_body_is_read_no_further_than_the_cap() -> None:
    """A body without end is hung up on, however fast it comes."""
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


async def test_body_that_is_reset_is_a_lost_connection() -> None:
    """A connection reset in the middle of a body gives no body, and no replay."""
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
    """Ends a connection without a farewell."""
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
async def test_head_that_is_not_to_be_had_is_no_answer(
    answer: bytes, failure: Failure
) -> None:
    """What can't be read as an answer of bounded size is a failure, asked for once."""
    async with Upstream(answer) as upstream:
        assert failure is await failure_of(upstream.url)

    assert 1 == len(upstream.requests)


# Getting there.


async def test_refused_port_is_a_connection_failure() -> None:
    """Where nobody listens there is no connection."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    assert Failure.CONNECTION is await failure_of(f"http://127.0.0.1:{port}/")
    assert Failure.CONNECTION is await failure_of(f"https://127.0.0.1:{port}/")


async def test_name_that_is_not_resolved_is_told_apart() -> None:
    """A name that nobody knows is a failure of its own."""
    assert Failure.DNS is await failure_of("http://nobody.invalid/")


async def test_connection_that_is_not_taken_times_out() -> None:
    """The time to connect is bounded by itself."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        with socket.create_connection(address):  # takes the only place
            found = await failure_of(
                f"http://127.0.0.1:{address[1]}/", connect_seconds=SOON_SECONDS
            )

    assert Failure.TIMEOUT is found


async def test_trusted_certificate_is_answered(tmp_path: Path) -> None:
    """An authority of the file vouches for the server."""

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
    """A server that nobody vouches for, as it is called and today, sees no request."""
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
    """A handshake that nobody answers ends by either time limit, and is named."""
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
    """A handshake that ends early, however rudely, is named, and not tried again."""
    hellos = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hellos.append(await reader.read(10_000))
        if farewell is None:
            reset(writer)
        else:
            writer.write(farewell)
            await writer.drain()

    async with serving(talk) as url:
        assert Failure.TLS is await failure_of(url.replace("http:", "https:"))
    assert 1 == len(hellos)


async def test_silence_after_the_handshake_is_a_timeout(tmp_path: Path) -> None:
    """Once hands are shaken TLS isn't at fault any more."""

    async def talk(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    ca = trustme.CA()
    async with serving(talk, tls=server_tls(ca)) as url:
        found = await failure_of(
            url, ca_file=ca_file(ca, tmp_path), attempt_seconds=SOON_SECONDS
        )

    assert Failure.TIMEOUT is found


# Time.

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
    """However an answer is drawn out, it ends by the attempt's time; then we leave."""
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
        await departure(reader)
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
async def test_refusal_that_a_header_names_is_not_held_up(
    attempt_seconds: float,
) -> None:
    """The code is enough: a body that stalls costs a second at most, and no timeout."""
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
async def test_body_of_a_refusal_that_a_header_names_is_read_all_the_same(
    answer: Any, body: bytes | Failure
) -> None:
    """A code in the header doesn't make the body unread."""
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
    """Whoever leaves early leaves nothing behind, and the next GET is clean."""
    has_come, has_left = asyncio.Event(), asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        if has_come.is_set():
            writer.write(http(b"{}"))
            await writer.drain()
            return
        writer.write(begun)
        has_come.set()
        await departure(reader)
        has_left.set()

    async with serving(talk) as url, transport() as opened, asyncio.timeout(5):
        task = asyncio.create_task(opened.get(url, {}))
        await has_come.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await has_left.wait()
        assert b"{}" == (await opened.get(url, {})).body


# When a request may leave.


@pytest.mark.guarantee("quota-at-send")
async def test_request_leaves_when_its_connection_is_there_and_it_may(
    tmp_path: Path,
) -> None:
    """Neither a handshake nor a wait for a connection is between it and the send."""
    ca = trustme.CA()
    connected, may_leave, read = asyncio.Event(), asyncio.Event(), bytearray()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()  # and TLS is ready
        read.extend(await reader.readuntil(b"\r\n\r\n"))
        assert may_leave.is_set()
        writer.write(http(b"{}"))
        await departure(reader)

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
async def test_replay_leaves_when_it_may_too() -> None:
    """Each request that comes to the server was let out, and no other."""
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


async def test_connection_that_closes_when_used_again_costs_one_replay() -> None:
    """Closed a hundred times on the request that follows, it is replayed each time."""
    answers = [http(b"{}"), b"", http(b"{}")] * 100
    async with Upstream(*answers) as upstream, transport() as opened:
        replies = [await opened.get(upstream.url, {}) for _ in range(200)]

    assert [b"{}"] * 200 == [reply.body for reply in replies]
    assert 300 == len(upstream.requests)


async def test_connection_that_closes_between_requests_costs_nothing() -> None:
    """Closed a hundred times while it is idle, nobody notices."""
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
    async with Upstream(answer) as upstream, transport() as opened:
        replies = [await opened.get(upstream.url, {}) for _ in range(100)]

    assert [b"{}"] * 100 == [reply.body for reply in replies]
    assert 100 == len(upstream.requests)


async def test_new_connection_that_closes_is_not_replayed() -> None:
    """A GET that a new connection lost counts as sent: another is somebody's choice."""
    async with Upstream(b"") as upstream:
        assert Failure.CONNECTION is await failure_of(upstream.url)

    assert 1 == len(upstream.requests)


async def test_replay_that_is_lost_is_not_replayed() -> None:
    """One replay is all; it is lost with the new connection that carried it."""
    async with Upstream(http(b"{}"), b"") as upstream, transport() as opened:
        await opened.get(upstream.url, {})
        with pytest.raises(TransportError) as caught:
            await opened.get(upstream.url, {})

    assert Failure.CONNECTION is caught.value.failure
    assert 3 == len(upstream.requests)


async def test_replay_is_made_on_a_fresh_connection() -> None:
    """A replay never lands on another connection that was kept alive."""
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
        requests += 1  # and closes

    async with serving(talk) as url, transport() as opened:
        await asyncio.gather(*(opened.get(url, {}) for _ in range(kept)))
        for _ in range(kept):
            assert b"{}" == (await opened.get(url, {})).body

    assert (kept + kept, kept + 2 * kept) == (connections, requests)


@pytest.mark.guarantee("invalid-bodies")
@pytest.mark.parametrize("is_later", [False, True], ids=["at-once", "later"])
async def test_what_was_said_unasked_answers_nothing(*, is_later: bool) -> None:
    """An answer behind the answer isn't taken for the next request's."""
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
        for _ in range(20):  # turns of the loop, in which it arrives
            await asyncio.sleep(0)
        second = await opened.get(url, {})

    assert (b"{}", b"{}") == (first.body, second.body)
    assert 2 == connections


async def test_connections_are_shared_and_bounded() -> None:
    """More GETs than connections wait for their turn on those that are there."""
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


async def test_close_closes_what_is_kept_alive() -> None:
    """A closed transport holds no connection."""
    has_left = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(http(b"{}"))
        await departure(reader)
        has_left.set()

    async with serving(talk) as url, asyncio.timeout(5):
        await get(url)
        await has_left.wait()
