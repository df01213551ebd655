"""Listeners: what is bound for an address, and the file of a Unix socket."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from structlog.testing import capture_logs

from e2e.test_standard_services import health_of, reflect
from healthomics.v1.run_service_pb2_grpc import RunServiceStub
from healthomics_gateway.app.listener import Listener, ListenError
from healthomics_gateway.net.addresses import Address, UnixPath
from healthomics_gateway.settings.listener_settings import ListenerSettings
from testkit.builders import Refusal, aws_at, gateway, get_run, refused
from testkit.callers import outcome, rule
from testkit.credential_matrix import word
from testkit.lying_upstream import LyingUpstream

NOWHERE = "http://127.0.0.1:9"  # for tests without a request to HealthOmics
SERVING = health_pb2.HealthCheckResponse.SERVING
IN_USE = "it can't be bound; is it in use?"
NOBODY = 65_534  # a user that owns nothing


@pytest.fixture
def folder() -> Iterator[Path]:
    """Yield a directory whose path is short enough for sockets."""
    with TemporaryDirectory(prefix="hg-") as name:
        yield Path(name)


@asynccontextmanager
async def listening(address: Address | UnixPath, **given: Any) -> AsyncIterator[Any]:
    """Listen at an address without accepting."""
    listener = Listener(ListenerSettings(name="listen", address=address, **given))
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    try:
        await listener.prepare()
        await listener.open(server)
        yield listener
    finally:
        await server.stop(None)
        listener.close()


async def fault_of(address: Address | UnixPath) -> str:
    """Return why an address can't be bound."""
    with pytest.raises(ListenError) as caught:
        async with listening(address):
            pass
    return str(caught.value)


def connects(host: str, port: int) -> bool:
    """Return whether something listens at a path."""
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError:
        return False
    return True


async def test_every_address_of_localhost_is_bound() -> None:
    """IPv4 and IPv6 are bound, with port 0 both at the same port."""
    async with listening(Address("localhost", 0)) as listener:
        port = listener.address.port
        bound = listener.bound
        found = [connects(host, port) for host in ("127.0.0.1", "::1")]

    assert [True, True] == found
    assert port
    # The addresses to probe; a name would be resolved for each probe.
    assert [f"127.0.0.1:{port}", f"[::1]:{port}"] == bound


async def test_workers_share_the_port_of_a_name() -> None:
    """A name is bound for a moment, to find its addresses, while others serve it."""
    async with AsyncExitStack() as stack:
        port = 0
        for _ in range(2):
            server = grpc.aio.server(options=[("grpc.so_reuseport", 1)])
            stack.push_async_callback(server.stop, None)
            settings = ListenerSettings(
                name="listen", address=Address("localhost", port)
            )
            listener = Listener(settings, is_shared=True)
            await listener.prepare()
            await listener.open(server)
            port = port or listener.address.port

        assert f"127.0.0.1:{port}" == listener.bound[0]


@pytest.mark.parametrize("taken", ["127.0.0.1", "::1"])
async def test_address_of_a_name_in_use_is_a_fault(taken: str) -> None:
    """Otherwise gRPC would bind only the other address of the name."""
    family = socket.AF_INET6 if ":" in taken else socket.AF_INET
    with closing(socket.create_server((taken, 0), family=family)) as other:
        found = await fault_of(Address("localhost", other.getsockname()[1]))

    assert IN_USE == found


async def test_address_of_another_machine_is_a_fault() -> None:
    """The fault doesn't say that the address is in use."""
    found = await fault_of(Address("192.0.2.1", 50051))

    assert "it can't be bound; this machine has no such address" == found


async def test_name_without_an_address_is_a_fault() -> None:
    """A name that can't be resolved is reported as such."""
    found = [
        await fault_of(Address(name, 1))
        for name in ("no-such-host.invalid", "x" * 70 + ".invalid")
    ]

    assert ["the name doesn't resolve to an address"] * 2 == found


@pytest.mark.guarantee("unix-sockets")
async def test_socket_has_its_mode_and_is_removed(folder: Path) -> None:
    """The file has its mode, and is removed at the end."""
    modes = []
    for mode in (0o600, 0o660):
        path = UnixPath(f"{folder}/mode {mode:o}%41#?é")
        async with listening(path, mode=mode):
            modes.append(os.stat(path.path).st_mode)  # noqa: PTH116  # as others see it

    assert [stat.S_IFSOCK | 0o600, stat.S_IFSOCK | 0o660] == modes
    assert [] == os.listdir(folder)  # noqa: PTH208  # in a test nothing else runs


async def test_stale_socket_is_replaced(folder: Path) -> None:
    """The socket of a process that has ended is replaced."""
    path = f"{folder}/socket"
    with closing(socket.socket(socket.AF_UNIX)) as gone:
        gone.bind(path)
    async with listening(UnixPath(path)):
        with closing(socket.socket(socket.AF_UNIX)) as client:
            client.connect(path)


@pytest.mark.guarantee("unix-sockets")
async def test_socket_in_use_is_a_fault(folder: Path) -> None:
    """The socket of a running process isn't replaced."""
    path = f"{folder}/socket"
    with closing(socket.socket(socket.AF_UNIX)) as other:
        other.bind(path)
        other.listen()
        found = await fault_of(UnixPath(path))
        with closing(socket.socket(socket.AF_UNIX)) as client:
            client.connect(path)

    assert "it is in use; stop what serves it, or change the path" == found


@pytest.mark.parametrize("spelling", ["/./socket", "//socket", "/link/socket"])
async def test_socket_that_is_listed_twice_is_a_fault(
    folder: Path, spelling: str
) -> None:
    """The second listener doesn't replace the first, whatever the spelling."""
    (folder / "link").symlink_to(folder)
    toml = "".join(
        f'[[listeners]]\naddress = "unix:{folder}{path}"\n'
        for path in ("/socket", spelling)
    )
    with pytest.raises(ListenError) as caught:
        async with gateway(aws_at(NOWHERE), toml=toml):
            pass

    fault = "it is in use; stop what serves it, or change the path"
    assert caught.value.args == (
        f"listeners[1].address unix:{folder}{spelling}: {fault}",
    )


@pytest.mark.guarantee("unix-sockets")
@pytest.mark.parametrize("step", ["prepare", "open"])
async def test_gateways_that_start_together_do_not_replace_a_socket(
    folder: Path, step: str
) -> None:
    """While one checks a path and binds it, the other waits, then finds it in use."""
    path, server = folder / "socket", grpc.aio.server()
    settings = ListenerSettings(name="listen", address=UnixPath(str(path)))
    with socket.socket(socket.AF_UNIX) as other:

        async def bind_other(_seconds: float) -> None:
            other.bind(str(path))
            other.listen()
            os.close(lock)

        listener = Listener(settings, sleep=bind_other)
        steps = {"prepare": listener.prepare, "open": lambda: listener.open(server)}
        if step == "open":
            await listener.prepare()
        lock = os.open(folder, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ListenError, match="it is in use"):
            await steps[step]()
    await server.stop(None)


async def test_lock_that_is_never_released_is_waited_for_a_second(folder: Path) -> None:
    """Any program that can read the directory can hold it, so the wait ends."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    lock = os.open(folder, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    address = UnixPath(str(folder / "socket"))
    await Listener(
        ListenerSettings(name="listen", address=address), sleep=sleep
    ).prepare()
    os.close(lock)

    assert 1.0 == pytest.approx(sum(slept))


@pytest.mark.guarantee("unix-sockets")
async def test_path_of_another_file_is_a_fault(folder: Path) -> None:
    """The file isn't removed, nor is a link."""
    (folder / "file").write_text("precious")
    (folder / "link").symlink_to("nowhere")
    found = {await fault_of(UnixPath(f"{folder}/{name}")) for name in ("file", "link")}

    assert {"the path is a file that isn't a socket; remove it"} == found
    assert "precious" == (folder / "file").read_text()


async def test_socket_without_its_directory_is_a_fault(folder: Path) -> None:
    """The fault names the directory as the cause."""
    found = await fault_of(UnixPath(f"{folder}/none/socket"))

    assert "it can't be bound; does its directory exist, and is it writable?" == found


@contextmanager
def unwritable(folder: Path) -> Iterator[None]:
    """Run without the permission to write to a directory, but with that to read it."""
    folder.chmod(0o555)
    is_root = os.geteuid() == 0
    if is_root:  # modes don't restrict root
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
        folder.chmod(0o700)


async def test_stale_socket_that_cannot_be_removed_is_a_fault(folder: Path) -> None:
    """In a directory without write permission there is no traceback."""
    path = folder / "gateway.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    path.chmod(0o777)  # otherwise the check for a server fails
    with unwritable(folder):
        fault = await fault_of(UnixPath(str(path)))

    assert "it can't be bound; does its directory exist, and is it writable?" == fault


async def test_socket_that_cannot_be_removed_is_logged(folder: Path) -> None:
    """The socket stays, the log has a warning, and the listener is closed."""
    path = folder / "gateway.sock"
    async with listening(UnixPath(str(path))) as listener:
        with capture_logs() as events, unwritable(folder):
            listener.close()
            listener.close()
        assert path.exists()

    assert ["socket_not_removed"] == [each["event"] for each in events]


async def test_socket_of_another_process_is_not_removed(folder: Path) -> None:
    """At the end only the listener's own file is removed."""
    path = folder / "socket"
    async with listening(UnixPath(str(path))) as listener:
        path.unlink()
        path.write_text("another's")
        listener.close()

    assert "another's" == path.read_text()


@pytest.mark.guarantee("listener-services")
async def test_listener_has_only_its_services(folder: Path) -> None:
    """A method of another service is unknown there, also to reflection."""
    toml = f"""
[[listeners]]
address = "unix:{folder}/probes"
services = ["Health"]
[[listeners]]
address = "unix:{folder}/described"
services = ["RunService", "Reflection"]
"""
    async with gateway(aws_at(NOWHERE), toml=toml) as served:
        _, probes, described = map(str, served.addresses)
        async with (
            grpc.aio.insecure_channel(probes) as probing,
            grpc.aio.insecure_channel(described) as describing,
        ):
            reported = [
                await refused(get_run(RunServiceStub(probing), "1")),
                await refused(reflect(probing, "v1", list_services="")),
                await refused(health_of(describing, "")),
            ]
            health = await health_of(probing, "")
            listed = await reflect(describing, "v1", list_services="")

    assert ["METHOD_UNKNOWN"] * 3 == [each.reason for each in reported]
    assert SERVING == health
    names = {each.name for each in listed.list_services_response.service}
    assert "healthomics.v1.RunService" in names
    assert "grpc.health.v1.Health" not in names


async def test_sockets_have_separate_send_buffers(folder: Path) -> None:
    """Unread answers of one socket's callers don't count for another's."""
    toml = "".join(
        f'[[listeners]]\naddress = "unix:{folder}/{name}"\nidentity = "{name}"\n'
        for name in ("a", "b")
    )
    async with LyingUpstream() as upstream:
        with capture_logs() as events:
            async with gateway(aws_at(upstream.url), toml=toml) as served:
                for address in served.addresses[1:]:
                    async with grpc.aio.insecure_channel(str(address)) as channel:
                        await get_run(RunServiceStub(channel), "1")

    assert [f"unix:{folder}/a", f"unix:{folder}/b"] == [
        each["peer"] for each in events if each["event"] == "call"
    ]


@pytest.mark.guarantee("every-listener")
async def test_limits_are_shared_by_all_listeners(folder: Path) -> None:
    """A limit used up on one listener is used up on all; the audit names each."""
    toml = rule("batch", calls_per_second=0.01)
    for name in ("a", "b"):
        socket_of = f'address = "unix:{folder}/{name}"\nidentity = "batch"\n'
        toml += f"[[listeners]]\n{socket_of}"
    ends = []
    async with LyingUpstream() as upstream:
        with capture_logs() as events:
            async with gateway(aws_at(upstream.url), toml=toml) as served:
                for address in served.addresses[1:]:
                    async with grpc.aio.insecure_channel(str(address)) as channel:
                        call = get_run(RunServiceStub(channel), "1")
                        ends.append(word(await outcome(call)))

    assert ["OK", "RESOURCE_EXHAUSTED CALLER_RATE_LIMITED"] == ends
    assert [("batch", f"unix:{folder}/a"), ("batch", f"unix:{folder}/b")] == [
        (each["identity"], each["listener"])
        for each in events
        if each["event"] == "call"
    ]


async def test_faults_of_all_listeners_are_reported(folder: Path) -> None:
    """All faults are reported, each with its setting."""
    (folder / "file").write_text("precious")
    toml = f"""
[[listeners]]
address = "unix:{folder}/file"
[[listeners]]
address = "no-such-host.invalid:1"
[tls]
insecure = true
"""
    with pytest.raises(ListenError) as caught:
        async with gateway(aws_at(NOWHERE), toml=toml):
            pass

    no_socket, no_name = caught.value.args
    assert no_socket.startswith(f"listeners[0].address unix:{folder}/file: the path is")
    assert no_name.startswith("listeners[1].address no-such-host.invalid:1: the name")


async def test_listen_and_admin_listen_bind_all_addresses(folder: Path) -> None:
    """`listen` is a socket; the admin pages are at both addresses of localhost."""
    own = f"unix:{folder}/own"
    async with gateway(
        aws_at(NOWHERE), listen=own, admin_listen="localhost:0"
    ) as served:
        port = served.admin_address.port
        found = [connects(host, port) for host in ("127.0.0.1", "::1")]
        async with grpc.aio.insecure_channel(str(served.address)) as channel:
            reported = await outcome(get_run(RunServiceStub(channel), "x"))

    assert [True, True] == found
    assert isinstance(reported, Refusal)
    assert "INVALID_REQUEST" == reported.reason
