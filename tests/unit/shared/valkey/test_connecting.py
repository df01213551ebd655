"""Connections to servers of all kinds, and what is said of those that fail."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import pytest
import trustme

from healthomics_gateway.shared.store import Rate, StoreError
from testkit.authorities import HOST, key_of, own_pem, root_of
from testkit.valkey_server import ValkeyServer, free_port, store_at, valkey

RATE = Rate(8.0, 2.0)
LATE_SECONDS = 20.0
GUIDE = (Path(__file__).parents[4] / "docs/guide/sharing.md").read_text()
PAUSE_SECONDS = 0.02


async def works(url: str) -> bool:
    """Return whether a store can be used by this URL; raises StoreError."""
    async with store_at(url) as store:
        return (await store.take("c", RATE, wanted=1)).granted == 1


async def fault_of(url: str) -> str:
    """Return why a store can't be used."""
    with pytest.raises(StoreError) as caught:
        await works(url)
    return str(caught.value)


@pytest.fixture(scope="module")
def by_password() -> Iterator[ValkeyServer]:
    """Return a server with a password, and with a user that may do little."""
    with valkey("--requirepass", "sesame", port=free_port()) as running:
        yield running


# Users


async def test_user_and_password_of_the_url_are_used(by_password: ValkeyServer) -> None:
    """Both may be escaped, and the database is selected."""
    assert await works(f"redis://default:s%65same@{HOST}:{by_password.port}/3")
    assert await works(f"{by_password.url}?password=sesame&db=2")


@pytest.mark.parametrize("user", ["", ":wrong@", "nobody:sesame@"])
async def test_wrong_password_is_said_without_it(
    by_password: ValkeyServer, user: str
) -> None:
    """The text names the setting, and contains neither user nor password."""
    fault = await fault_of(f"redis://{user}{HOST}:{by_password.port}")

    assert "it refuses the user or the password, or requires one: correct" in fault
    assert "wrong" not in fault
    assert "nobody" not in fault


async def test_user_without_permissions_is_named_as_the_cause(
    by_password: ValkeyServer,
) -> None:
    """The rules of the guide suffice, and fewer don't."""
    written = re.search(r"ACL SETUSER gateway on >PASSWORD (.*?)```", GUIDE, re.DOTALL)
    assert written
    rules = " ".join(written[1].split())
    async with by_password.client(password="sesame") as admin:
        create = "ACL SETUSER gateway reset on >open"
        await admin.execute_command(f"{create} {rules}")
        await admin.execute_command("ACL SETUSER few reset on >open +@connection")

    assert await works(f"redis://gateway:open@{HOST}:{by_password.port}")
    fault = await fault_of(f"redis://few:open@{HOST}:{by_password.port}")
    assert "its user lacks a permission" in fault


# TLS


Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(
    handle: Handle, context: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """Serve connections, and end each at the end; return the port."""
    tasks = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        try:
            await handle(reader, writer)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    serving = await asyncio.start_server(serve, HOST, 0, ssl=context)
    async with serving:
        yield serving.sockets[0].getsockname()[1]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def tls_to(server: ValkeyServer, authority: trustme.CA) -> AsyncIterator[int]:
    """Serve TLS that requires client certificates; the test's server has none."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(HOST).configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED

    async def pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                sink.write(data)
        sink.close()

    async def handle(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        path = server.url.removeprefix("unix://")
        to_read, to_write = await asyncio.open_unix_connection(path)
        await asyncio.gather(pipe(reader, to_write), pipe(to_read, writer))
        await to_write.wait_closed()

    async with listening(handle, context) as port:
        yield port


async def test_client_certificate_of_the_url_is_shown(
    server: ValkeyServer, tmp_path: Path
) -> None:
    """The files are named by redis-py's options."""
    authority = trustme.CA()
    client = authority.issue_cert("gateway.example.org")
    files = {
        "ssl_ca_certs": root_of(authority),
        "ssl_certfile": own_pem(client),
        "ssl_keyfile": key_of(client),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    given = {name: f"{name}={quote(str(tmp_path / name))}" for name in files}
    async with tls_to(server, authority) as port:
        url = f"rediss://{HOST}:{port}?"

        assert await works(url + "&".join(given.values()))
        assert "isn't trusted" in await fault_of(url)
        fault = await fault_of(url + given["ssl_ca_certs"])
        assert "the TLS handshake fails" in fault or "is closed" in fault
        assert "a file of shared.url doesn't exist" in await fault_of(
            f"{url}ssl_ca_certs=/nowhere"
        )


# Servers that can't be used


async def test_read_only_replica_is_said_to_be_one() -> None:
    """Its primary, or a Sentinel, is what the URL must name."""
    with valkey("--replicaof", HOST, str(free_port())) as replica:
        fault = await fault_of(replica.url)

    assert "it is a read-only replica: set shared.url to its primary" in fault


def answering(reply: bytes) -> Handle:
    """Return a server that says this, whatever it is asked, or nothing."""

    async def handle(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await reader.read(65536)
        writer.write(reply)

    return handle


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (b"*4\r\n+server\r\n+redis\r\n+version\r\n+6.2.14\r\n", "too old: at least 7"),
        (b":1\r\n", "can't be opened"),
        (b"*2\r\n+proto\r\n:2\r\n", "too old: at least 7"),
        (b"*4\r\n+server\r\n:1\r\n+version\r\n+7.0.0\r\n", "can't be opened"),
        (b"*4\r\n+server\r\n+redis\r\n+version\r\n+7.0.0\r\n", "the connection to it"),
        (b"-ERR unknown command 'HELLO'\r\n", "its version is too old"),
        (b"-DENIED it runs in protected mode\r\n", "it is in protected mode"),
        (b"-LOADING it is loading\r\n", "it is still loading its data"),
        (b"-ERR max number of clients reached\r\n", "it has too many clients"),
        (b"-MISCONF it is so\r\n", "it answers with an error (MISCONF)"),
        (b"-CANARY is wrong\r\n", "it answers with an error"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "isn't a Valkey or Redis server"),
        (b"", "is closed, or can't be opened"),
    ],
)
async def test_server_that_cannot_be_used_is_described(reply: bytes, text: str) -> None:
    """Each text is short, and names the cause."""
    async with listening(answering(reply)) as port:
        fault = await fault_of(f"redis://{HOST}:{port}")
        assert text in fault
        assert "canary" not in fault.lower()


async def test_plain_server_is_none_for_tls_or_sentinels() -> None:
    """A plain server waits for the rest of a handshake, or answers it."""
    with valkey(port=free_port()) as plain:
        at = f"{HOST}:{plain.port}"
        silent = await fault_of(f"rediss://{at}")
        sentinel = await fault_of(f"redis+sentinel://{at}/store")
        database = await fault_of(f"redis://{at}/77")
    async with listening(answering(b"-ERR Protocol error\r\n")) as port:
        answers = await fault_of(f"rediss://{HOST}:{port}")

    advice = "; if the server has no TLS, use redis://"
    assert f"it doesn't answer in time while connecting{advice}" == silent
    assert answers.startswith("the TLS handshake fails")
    assert answers.endswith(advice)
    assert sentinel.startswith("its Sentinel can't be asked: it isn't one: correct")
    assert database.startswith("it has no database 77: ")


async def test_unknown_host_and_missing_socket_are_described() -> None:
    """The text says what to correct, without quoting the URL."""
    assert "its name doesn't resolve" in await fault_of("redis://store.invalid")
    assert "a file of shared.url doesn't exist" in await fault_of("unix:///nowhere")


# Clusters and Sentinels


async def test_cluster_is_asked_for_the_server_that_has_the_keys() -> None:
    """Any server of the cluster may be named, also one that is gone."""
    ports = [free_port() for _ in range(4)]
    options = ("--cluster-enabled", "yes", "--cluster-port")
    with (
        valkey(*options, str(ports[1]), port=ports[0]) as empty,
        valkey(*options, str(ports[3]), port=ports[2]) as owner,
    ):
        async with owner.client() as other:
            await other.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
        async with empty.client() as other:
            await other.execute_command("CLUSTER MEET", HOST, ports[2], ports[3])
        gone = free_port()
        url = f"redis+cluster://{HOST}:{gone},{HOST}:{ports[0]}"
        await works_at_last(url)
        async with owner.client() as other:
            keys = [key async for key in other.scan_iter("*bucket*")]

    assert keys


async def test_sentinel_names_the_primary() -> None:
    """The name of the service is the path of the URL."""
    ports = free_port(), free_port()
    monitor = f"sentinel monitor store {HOST} {ports[0]} 1\n"
    with (
        valkey("--requirepass", "sesame", port=ports[0]),
        valkey(port=ports[1], sentinel=monitor) as sentinel,
    ):
        async with sentinel.client() as other:
            await other.execute_command("SENTINEL SET store auth-pass sesame")
        gone = free_port()
        at = f"redis+sentinel://:sesame@{HOST}:{gone},{HOST}:{ports[1]}"
        await works_at_last(f"{at}/store")
        fault = await fault_of(f"{at}/other")

        turned = f"redis+sentinel://{HOST}:{ports[1]},{HOST}:{gone}"
        unknown = await fault_of(f"{turned}/other")
        refused = await fault_of(f"{at}/store".replace("sesame", "wrong"))

    assert fault == unknown
    assert fault.startswith("its Sentinels don't know the service: correct its name")
    assert refused.startswith("it refuses the user or the password")
    assert "entinel" not in refused


async def test_sentinel_that_cannot_be_asked_is_told_from_an_unknown_service() -> None:
    """What to correct are the options of Sentinels, the scheme or the address."""
    ports = free_port(), free_port()
    monitor = f"sentinel monitor store {HOST} {ports[0]} 1\n"
    with (
        valkey(port=ports[0]),
        valkey("--requirepass", "sesame", port=ports[1], sentinel=monitor) as sentinel,
    ):
        async with sentinel.client(password="sesame") as other:
            rules = "on >open -@all +auth +sentinel|get-master-addr-by-name"
            await other.execute_command(f"ACL SETUSER gateway {rules}")
            await other.execute_command("ACL SETUSER few on >open -@all +auth")
        at = f"{HOST}:{ports[1]}/store"
        user = "sentinel_username=gateway&sentinel_password=open"
        assert await works(f"redis+sentinel://{at}?{user}")
        refused = [
            await fault_of(f"redis+sentinel://{at}{options}")
            for options in ("", "?sentinel_password=wrong")
        ]
        few = await fault_of(
            f"redis+sentinel://{at}?{user.replace('=gateway', '=few')}"
        )
        plain = await fault_of(f"rediss+sentinel://{at}?{user}")
    gone = await fault_of(f"redis+sentinel://{at}")

    begin = "its Sentinel can't be asked: it "
    advice = "correct shared.url, with the options sentinel_username and sentinel_pass"
    for each in refused:
        assert each.startswith(f"{begin}refuses the user or the password")
        assert advice in each
    assert few.startswith("its Sentinel can't be asked: its user lacks a permission")
    assert plain.startswith(begin)
    assert plain.endswith("; if the server has no TLS, use redis+sentinel://")
    assert f"{begin}refuses connections: start it, or correct shared.url" == gone


async def works_at_last(url: str) -> None:
    """Wait until servers have learned of each other."""
    async with asyncio.timeout(LATE_SECONDS):
        while True:
            with suppress(StoreError):
                assert await works(url)
                return
            await asyncio.sleep(PAUSE_SECONDS)  # the servers have no event for it
