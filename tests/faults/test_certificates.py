"""Certificates that are replaced on disk, correctly or not, during calls."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from structlog.testing import capture_logs

from healthomics_gateway.tls.files import TlsFiles
from testkit.authorities import (
    HOST,
    Served,
    chain_of,
    channel_to,
    echo,
    echo_over,
    echoing,
    expired,
    own_pem,
    root_of,
    shake,
    shaking,
    write,
    written,
)
from testkit.fault_table import Tally

CALLERS = 4  # concurrent callers, each with short-lived channels
ROUNDS = 5  # each replaces the certificate in every way
WAYS = pytest.mark.parametrize(
    "is_asking",
    [pytest.param(False, id="none"), pytest.param(True, id="required")],
)


class Server:
    """A server whose certificate files are replaced."""

    def __init__(self, folder: Path, *, is_asking: bool) -> None:
        """Write the first certificate."""
        self.folder = folder
        self.authority = trustme.CA()
        self.clients = trustme.CA()
        self.caller = self.clients.issue_cert("caller@example.org")
        self.first = self.issue()
        self.files: TlsFiles = written(
            self.first, folder, clients=self.clients if is_asking else None
        )

    def issue(self) -> trustme.LeafCert:
        """Issue a chain of two certificates, the server's and the intermediate's."""
        return self.authority.create_child_ca().issue_cert(HOST)

    async def shown(self, served: Served) -> bytes:
        """Return the certificate of a new handshake, as PEM."""
        shaken = await shake(served.port, shaking(self.authority, self.caller))
        assert shaken
        return shaken.certificate


@pytest.mark.fault(37)
@WAYS
async def test_complete_certificate_is_served_at_once(
    tmp_path: Path, *, is_asking: bool
) -> None:
    """New handshakes get the new certificate after the next check of the files."""
    server = Server(tmp_path, is_asking=is_asking)
    second = server.issue()
    async with echoing(server.files) as served:
        before = await server.shown(served)
        write(second, tmp_path)
        await served.look()
        after = await server.shown(served)

    assert own_pem(server.first) == before
    assert own_pem(second) == after
    assert "" == served.tls.fault


def half_written(server: Server) -> None:
    """Write a chain that ends within its second certificate, and its key."""
    certificate = server.issue()
    write(certificate, server.folder)
    server.files.cert_file.write_bytes(chain_of(certificate)[:-100])


def empty(server: Server) -> None:
    """Write an empty key file."""
    server.files.key_file.write_bytes(b"")


def mismatched(server: Server) -> None:
    """Replace the certificate but not its key."""
    server.files.cert_file.write_bytes(chain_of(server.issue()))


def out_of_date(server: Server) -> None:
    """Write a complete certificate that has expired."""
    write(expired(server.authority), server.folder)


def gone(server: Server) -> None:
    """Remove the key."""
    server.files.key_file.unlink(missing_ok=True)


def of_no_authority(server: Server) -> None:
    """Write a valid certificate, but invalid client authorities."""
    write(server.issue(), server.folder)
    assert server.files.client_ca_file
    server.files.client_ca_file.write_bytes(b"-----BEGIN CERTIFICATE-----\nMI")


BAD = {
    half_written: "tls.cert_file: it contains an incomplete block",
    empty: "tls.key_file: it contains no private key in PEM",
    mismatched: "tls.cert_file and tls.key_file: the key isn't the certificate's",
    out_of_date: "tls.cert_file: the certificate expired on ",
    gone: "tls.key_file: no file can be read at this path",
}
BAD_AUTHORITIES = "tls.client_ca_file: it contains an incomplete block"


@pytest.mark.guarantee("certificate-renewal")
@pytest.mark.fault(37)
@WAYS
@pytest.mark.parametrize(
    "break_files", BAD, ids=lambda break_files: break_files.__name__
)
async def test_invalid_certificate_keeps_the_old_one(
    tmp_path: Path, break_files: Any, *, is_asking: bool
) -> None:
    """The old certificate is served, with one log line, until a valid one follows."""
    server = Server(tmp_path, is_asking=is_asking)
    second = server.issue()
    with capture_logs() as log:
        async with echoing(server.files) as served:
            break_files(server)
            await served.look()
            await served.look()
            fault, kept = served.tls.fault, await server.shown(served)
            write(second, tmp_path)
            await served.look()
            after = await server.shown(served)

    assert fault.startswith(BAD[break_files])
    assert own_pem(server.first) == kept
    assert own_pem(second) == after
    assert "" == served.tls.fault
    events = [each["event"] for each in log]
    assert ["certificate_fault", "certificate_replaced"] == events
    assert (fault,) == log[0]["faults"]


@pytest.mark.fault(37)
async def test_invalid_authorities_keep_certificate_and_authorities(
    tmp_path: Path,
) -> None:
    """A new certificate isn't served while the authorities beside it are invalid."""
    server = Server(tmp_path, is_asking=True)
    async with echoing(server.files) as served:
        of_no_authority(server)
        await served.look()
        kept, fault = await server.shown(served), served.tls.fault
        await echo(served.address, root_of(server.authority), server.caller)

    assert own_pem(server.first) == kept
    assert BAD_AUTHORITIES == fault


@pytest.mark.guarantee("certificate-renewal")
@pytest.mark.fault(37)
@WAYS
async def test_swapped_directory_is_served(tmp_path: Path, *, is_asking: bool) -> None:
    """As in Kubernetes, the files are links into `..data`, which is replaced."""
    old = tmp_path / "..2026_10_01"
    old.mkdir()
    server = Server(old, is_asking=is_asking)
    (tmp_path / "..data").symlink_to(old.name)
    for file in old.iterdir():
        (tmp_path / file.name).symlink_to(Path("..data", file.name))
    files = TlsFiles(
        cert_file=tmp_path / "cert.pem",
        key_file=tmp_path / "key.pem",
        client_ca_file=tmp_path / "client_ca.pem" if is_asking else None,
    )
    second = server.issue()
    async with echoing(files) as served:
        before = await server.shown(served)
        new = tmp_path / "..2026_10_02"
        new.mkdir()
        written(second, new, clients=server.clients)
        (tmp_path / "..data_tmp").symlink_to(new.name)
        (tmp_path / "..data_tmp").rename(tmp_path / "..data")
        await served.look()
        after = await server.shown(served)

    assert own_pem(server.first) == before
    assert own_pem(second) == after


@pytest.mark.fault(37)
async def test_replaced_authority_applies_to_new_handshakes(tmp_path: Path) -> None:
    """Clients of the old authority are refused, except on their open connections."""
    server, after = Server(tmp_path, is_asking=True), trustme.CA()
    trusted, new = root_of(server.authority), after.issue_cert("new@example.org")
    assert server.files.client_ca_file
    async with (
        echoing(server.files) as served,
        channel_to(served.address, trusted, server.caller) as channel,
    ):
        await echo_over(channel)
        server.files.client_ca_file.write_bytes(root_of(after))
        await served.look()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await echo(served.address, trusted, server.caller)
        await echo(served.address, trusted, new)
        await echo_over(channel)
        seen = served.echo.certificates

    assert grpc.StatusCode.UNAVAILABLE is caught.value.code()
    assert [own_pem(each) for each in (server.caller, new, server.caller)] == seen


class Load:
    """Calls during the replacement of certificates, and their outcomes."""

    def __init__(self, server: Server, served: Served, tally: Tally) -> None:
        """Count the calls in `tally`."""
        self._server = server
        self._served = served
        self._tally = tally
        self._is_over = False
        self._connected = asyncio.Semaphore(0)
        self.failed: list[str] = []
        self.shown: Counter[bytes] = Counter()  # the certificate of each handshake

    @classmethod
    @asynccontextmanager
    async def under_way(
        cls, server: Server, served: Served, tally: Tally
    ) -> AsyncIterator[Load]:
        """Make calls on one lasting channel and many short ones, and handshakes."""
        load = cls(server, served, tally)
        async with (
            channel_to(served.address, root_of(server.authority), server.caller) as one,
            asyncio.TaskGroup() as tasks,
        ):
            tasks.create_task(load._go_on(lambda: load._call(one)))
            tasks.create_task(load._go_on(load._shake))
            for _ in range(CALLERS):
                tasks.create_task(load._go_on(load._call_once))
            yield load
            load._is_over = True

    async def connections(self, count: int) -> None:
        """Wait until this many more channels have been opened and closed."""
        for _ in range(count):
            await self._connected.acquire()

    async def _go_on(self, act: Any) -> None:
        while not self._is_over:
            await act()

    async def _call_once(self) -> None:
        trusted = root_of(self._server.authority)
        async with channel_to(
            self._served.address, trusted, self._server.caller
        ) as channel:
            await self._call(channel)
        self._connected.release()

    async def _call(self, channel: grpc.aio.Channel) -> None:
        try:
            await echo_over(channel)
        except grpc.aio.AioRpcError as error:
            self.failed.append(f"{error.code()} {error.details()}")
        self._tally.calls += 1

    async def _shake(self) -> None:
        self.shown[await self._server.shown(self._served)] += 1


@pytest.mark.guarantee("certificate-renewal")
@pytest.mark.fault(37)
@WAYS
async def test_no_call_fails_while_certificates_are_replaced(
    tmp_path: Path, tally: Tally, *, is_asking: bool
) -> None:
    """Under load no call fails, and each handshake gets a valid certificate."""
    server = Server(tmp_path, is_asking=is_asking)
    good = [server.first]
    async with (
        echoing(server.files) as served,
        Load.under_way(server, served, tally) as load,
    ):
        for break_files in [*BAD] * ROUNDS:
            break_files(server)
            await served.look()
            await load.connections(CALLERS)
            good.append(server.issue())
            write(good[-1], tmp_path)
            await served.look()
            await load.connections(CALLERS)
    tally.outcomes["OK"] = tally.calls - len(load.failed)

    assert [] == load.failed
    assert set(load.shown) <= {own_pem(each) for each in good}
    assert ROUNDS < len(load.shown)
    shown = own_pem(server.caller) if is_asking else None
    assert {shown} == set(served.echo.certificates)
