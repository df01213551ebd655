"""Listeners: what is bound for an address, and what becomes of a Unix socket's file."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
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
from healthomics_gateway.settings.endpoints import Endpoint
from testkit.builders import Refusal, aws_at, gateway, get_run, refused
from testkit.callers import outcome, rule
from testkit.credential_matrix import word
from testkit.lying_upstream import LyingUpstream

NOWHERE = "http://127.0.0.1:9"  # no such test asks HealthOmics
SERVING = health_pb2.HealthCheckResponse.SERVING
IN_USE = "it can't be bound; is it in use?"
NOBODY = 65_534  # a user that owns nothing


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a folder whose path is short enough for sockets."""
    with TemporaryDirectory(prefix="hg-") as name:
        yield Path(name)


@asynccontextmanager
async def listening(address: Address | UnixPath, **given: Any) -> AsyncIterator[Any]:
    """Serve nothing at an address."""
    listener = Listener(Endpoint(setting="listen", address=address, **given))
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    try:
        await listener.prepare()
        await listener.open(server)
        yield listener
    finally:
        await server.stop(None)
        listener.close()


async def fault_of(address: Address | UnixPath) -> str:
    """Return why an address can't be listened on."""
    with pytest.raises(ListenError) as caught:
        async with listening(address):
            pass
    return str(caught.value)


def connects(host: str, port: int) -> bool:
    """Tell whether something listens there."""
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError:
        return False
    return True


async def test_every_address_of_localhost_is_bound() -> None:
    """IPv4 and IPv6 alike, both at one port where the system chooses it."""
    async with listening(Address("localhost", 0)) as listener:
        port = listener.address.port
        bound = listener.bound
        found = [connects(host, port) for host in ("127.0.0.1", "::1")]

    assert [True, True] == found
    assert port
    # What is probed: a name would be looked up for each probe.
    assert [f"127.0.0.1:{port}", f"[::1]:{port}"] == bound


@pytest.mark.parametrize("taken", ["127.0.0.1", "::1"])
async def test_address_of_a_name_that_is_taken_is_a_fault(taken: str) -> None:
    """GRPC itself would serve the other address, and callers reach another program."""
    family = socket.AF_INET6 if ":" in taken else socket.AF_INET
    with closing(socket.create_server((taken, 0), family=family)) as other:
        found = await fault_of(Address("localhost", other.getsockname()[1]))

    assert IN_USE == found


async def test_address_of_another_machine_is_a_fault() -> None:
    """The fault doesn't send the operator after a process that isn't there."""
    found = await fault_of(Address("192.0.2.1", 50051))

    assert "it can't be bound; this machine has no such address" == found


async def test_name_without_an_address_is_a_fault() -> None:
    """A name that doesn't resolve is reported as such."""
    found = [
        await fault_of(Address(name, 1))
        for name in ("no-such-host.invalid", "x" * 70 + ".invalid")
    ]

    assert ["the name doesn't resolve to an address"] * 2 == found


@pytest.mark.guarantee("unix-sockets")
async def test_socket_has_its_mode_and_goes_at_the_end(folder: Path) -> None:
    """Its file is for those that the mode lets in, and is removed."""
    modes = []
    for mode in (0o600, 0o660):
        path = UnixPath(f"{folder}/mode {mode:o}%41#?é")
        async with listening(path, mode=mode):
            modes.append(os.stat(path.path).st_mode)  # noqa: PTH116  # as others see it

    assert [stat.S_IFSOCK | 0o600, stat.S_IFSOCK | 0o660] == modes
    assert [] == os.listdir(folder)  # noqa: PTH208  # in a test nothing else runs


async def test_stale_socket_is_replaced(folder: Path) -> None:
    """The file of a process that is gone is in nobody's way."""
    path = f"{folder}/socket"
    with closing(socket.socket(socket.AF_UNIX)) as gone:
        gone.bind(path)
    async with listening(UnixPath(path)):
        with closing(socket.socket(socket.AF_UNIX)) as client:
            client.connect(path)


@pytest.mark.guarantee("unix-sockets")
async def test_socket_that_is_served_is_a_fault(folder: Path) -> None:
    """It stays with the process that serves it."""
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
    """However its path is written, its first listener isn't replaced by the second."""
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
async def test_gateways_that_start_at_once_do_not_take_each_other_s_socket(
    folder: Path, step: str
) -> None:
    """While one looks at a path and binds it, another waits and then finds it."""
    path, server = folder / "socket", grpc.aio.server()
    endpoint = Endpoint(setting="listen", address=UnixPath(str(path)))
    with socket.socket(socket.AF_UNIX) as other:

        async def bind_other(_seconds: float) -> None:
            other.bind(str(path))
            other.listen()
            os.close(lock)

        listener = Listener(endpoint, sleep=bind_other)
        steps = {"prepare": listener.prepare, "open": lambda: listener.open(server)}
        if step == "open":
            await listener.prepare()
        lock = os.open(folder, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ListenError, match="it is in use"):
            await steps[step]()
    await server.stop(None)


async def test_lock_that_is_never_released_is_waited_for_a_second(folder: Path) -> None:
    """Any program that can read the folder can hold it, so the start goes on."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    lock = os.open(folder, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    address = UnixPath(str(folder / "socket"))
    await Listener(Endpoint(setting="listen", address=address), sleep=sleep).prepare()
    os.close(lock)

    assert 1.0 == pytest.approx(sum(slept))


@pytest.mark.guarantee("unix-sockets")
async def test_file_that_is_no_socket_is_a_fault(folder: Path) -> None:
    """It stays as it is; so does a link, whatever it leads to."""
    (folder / "file").write_text("precious")
    (folder / "link").symlink_to("nowhere")
    found = {await fault_of(UnixPath(f"{folder}/{name}")) for name in ("file", "link")}

    assert {"the path is a file that isn't a socket; remove it"} == found
    assert "precious" == (folder / "file").read_text()


async def test_socket_in_no_folder_is_a_fault(folder: Path) -> None:
    """The fault says where to look."""
    found = await fault_of(UnixPath(f"{folder}/none/socket"))

    assert "it can't be bound; does its directory exist, and is it writable?" == found


@contextmanager
def unwritable(folder: Path) -> Iterator[None]:
    """Be a user who can read a folder and can't write to it."""
    folder.chmod(0o555)
    is_root = os.geteuid() == 0
    if is_root:  # to whom modes mean nothing
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
        folder.chmod(0o700)


async def test_stale_socket_that_cannot_be_removed_is_a_fault(folder: Path) -> None:
    """In a folder that the gateway can't write to it is no traceback."""
    path = folder / "gateway.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    path.chmod(0o777)  # else it can't be seen that nobody serves it
    with unwritable(folder):
        fault = await fault_of(UnixPath(str(path)))

    assert "it can't be bound; does its directory exist, and is it writable?" == fault


async def test_socket_that_cannot_be_removed_holds_up_no_end(folder: Path) -> None:
    """It stays, the log says so, and the listener is closed all the same."""
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
async def test_listener_serves_what_is_named(folder: Path) -> None:
    """A method of another service is unknown there, and reflection doesn't list it."""
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
            told = [
                await refused(get_run(RunServiceStub(probing), "1")),
                await refused(reflect(probing, "v1", list_services="")),
                await refused(health_of(describing, "")),
            ]
            health = await health_of(probing, "")
            listed = await reflect(describing, "v1", list_services="")

    assert ["METHOD_UNKNOWN"] * 3 == [each.reason for each in told]
    assert SERVING == health
    names = {each.name for each in listed.list_services_response.service}
    assert "healthomics.v1.RunService" in names
    assert "grpc.health.v1.Health" not in names


async def test_sockets_share_no_connection(folder: Path) -> None:
    """What one socket's callers hold and don't read isn't held by another's callers."""
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
async def test_limits_hold_over_all_listeners(folder: Path) -> None:
    """What a caller has used up on one it has used up; the audit names each."""
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
    """No fault hides another, and each names its setting."""
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


async def test_listen_and_admin_listen_take_names(folder: Path) -> None:
    """`listen` is a socket, the admin pages are at both addresses of localhost."""
    own = f"unix:{folder}/own"
    async with gateway(
        aws_at(NOWHERE), listen=own, admin_listen="localhost:0"
    ) as served:
        port = served.admin_address.port
        found = [connects(host, port) for host in ("127.0.0.1", "::1")]
        async with grpc.aio.insecure_channel(str(served.address)) as channel:
            told = await outcome(get_run(RunServiceStub(channel), "x"))

    assert [True, True] == found
    assert isinstance(told, Refusal)
    assert "INVALID_REQUEST" == told.reason
