"""A certificate that is replaced on disk, well or badly, while calls go on."""

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

CALLERS = 4  # at a time, each with short-lived channels
ROUNDS = 5  # of every way to replace a certificate
WAYS = pytest.mark.parametrize(
    "is_asking",
    [pytest.param(False, id="none"), pytest.param(True, id="required")],
)


class Place:
    """A server whose files are replaced, and the certificates it has shown."""

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
        """Issue a certificate of two: its own and that of the authority below."""
        return self.authority.create_child_ca().issue_cert(HOST)

    async def shown(self, served: Served) -> bytes:
        """Give the certificate that a new handshake shows, as PEM."""
        shaken = await shake(served.port, shaking(self.authority, self.caller))
        assert shaken
        return shaken.certificate


@pytest.mark.fault(37)
@WAYS
async def test_whole_certificate_is_served_at_once(
    tmp_path: Path, *, is_asking: bool
) -> None:
    """New handshakes show the new one after the next look."""
    place = Place(tmp_path, is_asking=is_asking)
    second = place.issue()
    async with echoing(place.files) as served:
        before = await place.shown(served)
        write(second, tmp_path)
        await served.look()
        after = await place.shown(served)

    assert own_pem(place.first) == before
    assert own_pem(second) == after
    assert "" == served.tls.fault


def half_written(place: Place) -> None:
    """Write a chain that ends within its second certificate, beside its key."""
    certificate = place.issue()
    write(certificate, place.folder)
    place.files.cert_file.write_bytes(chain_of(certificate)[:-100])


def empty(place: Place) -> None:
    """Begin to write a key."""
    place.files.key_file.write_bytes(b"")


def mismatched(place: Place) -> None:
    """Replace the certificate before its key."""
    place.files.cert_file.write_bytes(chain_of(place.issue()))


def out_of_date(place: Place) -> None:
    """Write a whole certificate that has expired."""
    write(expired(place.authority), place.folder)


def gone(place: Place) -> None:
    """Take the key away."""
    place.files.key_file.unlink(missing_ok=True)


def of_no_authority(place: Place) -> None:
    """Write a good certificate, but authorities of clients that are none."""
    write(place.issue(), place.folder)
    assert place.files.client_ca_file
    place.files.client_ca_file.write_bytes(b"-----BEGIN CERTIFICATE-----\nMI")


BAD = {
    half_written: "tls.cert_file: it holds a block that isn't whole",
    empty: "tls.key_file: no private key in PEM is in it",
    mismatched: "tls.cert_file and tls.key_file: the key isn't the certificate's",
    out_of_date: "tls.cert_file: the certificate expired on ",
    gone: "tls.key_file: no file of this path can be read",
}
BAD_AUTHORITIES = "tls.client_ca_file: it holds a block that isn't whole"


@pytest.mark.guarantee("certificate-renewal")
@pytest.mark.fault(37)
@WAYS
@pytest.mark.parametrize("spoil", BAD, ids=lambda spoil: spoil.__name__)
async def test_bad_certificate_keeps_the_old(
    tmp_path: Path, spoil: Any, *, is_asking: bool
) -> None:
    """What was served stays, once told in the log, and the next good one is served."""
    place = Place(tmp_path, is_asking=is_asking)
    second = place.issue()
    with capture_logs() as log:
        async with echoing(place.files) as served:
            spoil(place)
            await served.look()
            await served.look()
            fault, kept = served.tls.fault, await place.shown(served)
            write(second, tmp_path)
            await served.look()
            after = await place.shown(served)

    assert fault.startswith(BAD[spoil])
    assert own_pem(place.first) == kept
    assert own_pem(second) == after
    assert "" == served.tls.fault
    events = [each["event"] for each in log]
    assert ["certificate_fault", "certificate_replaced"] == events
    assert (fault,) == log[0]["faults"]


@pytest.mark.fault(37)
async def test_bad_authorities_keep_certificate_and_authorities(tmp_path: Path) -> None:
    """A certificate isn't served before the authorities beside it can be, too."""
    place = Place(tmp_path, is_asking=True)
    async with echoing(place.files) as served:
        of_no_authority(place)
        await served.look()
        kept, fault = await place.shown(served), served.tls.fault
        await echo(served.address, root_of(place.authority), place.caller)

    assert own_pem(place.first) == kept
    assert BAD_AUTHORITIES == fault


@pytest.mark.guarantee("certificate-renewal")
@pytest.mark.fault(37)
@WAYS
async def test_swapped_folder_is_served(tmp_path: Path, *, is_asking: bool) -> None:
    """As in Kubernetes: files are links into `..data`, which is replaced at once."""
    old = tmp_path / "..2026_10_01"
    old.mkdir()
    place = Place(old, is_asking=is_asking)
    (tmp_path / "..data").symlink_to(old.name)
    for file in old.iterdir():
        (tmp_path / file.name).symlink_to(Path("..data", file.name))
    files = TlsFiles(
        cert_file=tmp_path / "cert.pem",
        key_file=tmp_path / "key.pem",
        client_ca_file=tmp_path / "client_ca.pem" if is_asking else None,
    )
    second = place.issue()
    async with echoing(files) as served:
        before = await place.shown(served)
        new = tmp_path / "..2026_10_02"
        new.mkdir()
        written(second, new, clients=place.clients)
        (tmp_path / "..data_tmp").symlink_to(new.name)
        (tmp_path / "..data_tmp").rename(tmp_path / "..data")
        await served.look()
        after = await place.shown(served)

    assert own_pem(place.first) == before
    assert own_pem(second) == after


@pytest.mark.fault(37)
async def test_replaced_authority_decides_on_new_handshakes(tmp_path: Path) -> None:
    """Clients of the old one are refused, of the new one let in; who is there stays."""
    place, after = Place(tmp_path, is_asking=True), trustme.CA()
    trusted, new = root_of(place.authority), after.issue_cert("new@example.org")
    assert place.files.client_ca_file
    async with (
        echoing(place.files) as served,
        channel_to(served.address, trusted, place.caller) as channel,
    ):
        await echo_over(channel)
        place.files.client_ca_file.write_bytes(root_of(after))
        await served.look()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await echo(served.address, trusted, place.caller)
        await echo(served.address, trusted, new)
        await echo_over(channel)
        seen = served.echo.certificates

    assert grpc.StatusCode.UNAVAILABLE is caught.value.code()
    assert [own_pem(each) for each in (place.caller, new, place.caller)] == seen


class Load:
    """Calls that go on while certificates are replaced, and what became of them."""

    def __init__(self, place: Place, served: Served, tally: Tally) -> None:
        """Count in `tally`."""
        self._place = place
        self._served = served
        self._tally = tally
        self._is_over = False
        self._connected = asyncio.Semaphore(0)
        self.failed: list[str] = []
        self.shown: Counter[bytes] = Counter()  # certificates, one for each handshake

    @classmethod
    @asynccontextmanager
    async def under_way(
        cls, place: Place, served: Served, tally: Tally
    ) -> AsyncIterator[Load]:
        """Call over one channel that lasts, and many that don't; shake hands."""
        load = cls(place, served, tally)
        async with (
            channel_to(served.address, root_of(place.authority), place.caller) as one,
            asyncio.TaskGroup() as tasks,
        ):
            tasks.create_task(load._go_on(lambda: load._call(one)))
            tasks.create_task(load._go_on(load._shake))
            for _ in range(CALLERS):
                tasks.create_task(load._go_on(load._call_once))
            yield load
            load._is_over = True

    async def connections(self, count: int) -> None:
        """Wait until so many more channels have come and gone."""
        for _ in range(count):
            await self._connected.acquire()

    async def _go_on(self, act: Any) -> None:
        while not self._is_over:
            await act()

    async def _call_once(self) -> None:
        trusted = root_of(self._place.authority)
        async with channel_to(
            self._served.address, trusted, self._place.caller
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
        self.shown[await self._place.shown(self._served)] += 1


@pytest.mark.guarantee("certificate-renewal")
@pytest.mark.fault(37)
@WAYS
async def test_no_call_fails_while_certificates_are_replaced(
    tmp_path: Path, tally: Tally, *, is_asking: bool
) -> None:
    """Under load no call fails, and each handshake shows a certificate once good."""
    place = Place(tmp_path, is_asking=is_asking)
    good = [place.first]
    async with (
        echoing(place.files) as served,
        Load.under_way(place, served, tally) as load,
    ):
        for spoil in [*BAD] * ROUNDS:
            spoil(place)
            await served.look()
            await load.connections(CALLERS)
            good.append(place.issue())
            write(good[-1], tmp_path)
            await served.look()
            await load.connections(CALLERS)
    tally.outcomes["OK"] = tally.calls - len(load.failed)

    assert [] == load.failed
    assert set(load.shown) <= {own_pem(each) for each in good}
    assert ROUNDS < len(load.shown)
    shown = own_pem(place.caller) if is_asking else None
    assert {shown} == set(served.echo.certificates)
