"""The steps about certificates and addresses."""

from __future__ import annotations

import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from healthomics_gateway.check.found import Found
from healthomics_gateway.check.listening import (
    check_addresses,
    check_certificates,
    serves_pages,
)
from healthomics_gateway.check.step import Status
from healthomics_gateway.net.addresses import Address
from healthomics_gateway.settings.load import load
from testkit.authorities import own_pem, tls_settings
from testkit.builders import http
from testkit.connections import HOST, ConnectionServer

FREE = {"GATEWAY_ADMIN_LISTEN": f"{HOST}:0"}
PUBLIC = {"GATEWAY_LISTEN": "gateway.example.org:50051"}


def found_with(environ: dict[str, str], *, now: datetime | None = None) -> Found:
    """Return what the step of the settings finds."""
    found = Found(environ={}, log_file=-1, loaded=load(flags={}, environ=environ))
    if now:
        found.now = lambda: now
    return found


async def test_certificate_without_names_is_refused_by_clients(tmp_path: Path) -> None:
    """The common name isn't enough."""
    nameless = trustme.CA().issue_cert(common_name="gateway.example.org")
    result = await check_certificates(found_with(tls_settings(nameless, tmp_path)))

    (problem,) = result.problems
    assert "has no host name in subjectAltName" in problem


async def test_certificate_of_another_chain_is_refused(tmp_path: Path) -> None:
    """A chain has issuers only."""
    certificate = trustme.CA().issue_cert("gateway.example.org")
    settings = tls_settings(certificate, tmp_path)
    other = own_pem(trustme.CA().issue_cert("other.example.org"))
    with (tmp_path / "cert.pem").open("ab") as file:
        file.write(other)
    result = await check_certificates(found_with(settings))

    (problem,) = result.problems
    assert "tls.cert_file: certificate 2 isn't an issuer of the first" in problem


async def test_certificate_that_soon_expires_has_a_note(tmp_path: Path) -> None:
    """It is no fault yet."""
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=3)
    certificate = trustme.CA().issue_cert("*.example.org", not_after=until)
    settings = tls_settings(certificate, tmp_path) | PUBLIC
    result = await check_certificates(found_with(settings))

    assert (Status.OK, f"*.example.org until {until:%Y-%m-%dT%H:%M:%SZ}") == (
        result.status,
        result.detail,
    )
    (note,) = result.notes
    assert note.endswith("renew it")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "10.0.0.1"])
async def test_names_of_no_host_are_not_looked_for(host: str, tmp_path: Path) -> None:
    """Clients connect to a name, whatever address the listener has."""
    settings = tls_settings(trustme.CA().issue_cert("a.example.org"), tmp_path)
    found = found_with(settings | {"GATEWAY_LISTEN": f"{host}:50051"})

    assert Status.OK is (await check_certificates(found)).status


async def test_unix_socket_is_free_in_a_writable_folder(tmp_path: Path) -> None:
    """Each other path has one fault, with one piece of advice."""
    path = tmp_path / "gateway.sock"
    found = found_with(FREE | {"GATEWAY_LISTEN": f"unix:{path}"})
    free = await check_addresses(found)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        taken = await check_addresses(found)
    nowhere = found_with(FREE | {"GATEWAY_LISTEN": f"unix:{tmp_path}/none/a.sock"})
    missing = await check_addresses(nowhere)
    path.unlink()
    path.touch()
    file = await check_addresses(found)

    assert (Status.OK, "2 are free") == (free.status, free.detail)
    name = f"listen unix:{path}"
    assert (f"{name}: it is in use; stop what serves it, or change the path",) == (
        taken.problems
    )
    assert (f"{name}: the path is a file that isn't a socket; remove it",) == (
        file.problems
    )
    (problem,) = missing.problems
    assert problem.endswith("does its directory exist, and is it writable?")


async def test_address_of_another_machine_is_a_fault_beside_a_gateway() -> None:
    """A gateway that is running explains only the addresses in use."""

    async def answer(_reader: object, writer: Any) -> None:
        writer.write(http("listeners: ok\naws: ok\n", keep=False))

    async with ConnectionServer(answer) as admin:
        found = found_with(
            {
                "GATEWAY_ADMIN_LISTEN": f"{HOST}:{admin.port}",
                "GATEWAY_LISTEN": "192.0.2.1:50051",
                "GATEWAY_TLS__INSECURE": "true",
            }
        )
        result = await check_addresses(found)

    (problem,) = result.problems
    assert (
        "listen 192.0.2.1:50051: it can't be bound; this machine has no such address;"
        " set an address of this machine that it may use"
    ) == problem


def test_server_that_does_not_answer_is_no_gateway() -> None:
    """Nothing listens, or it isn't HTTP."""
    with socket.create_server((HOST, 0)) as closed:
        port = closed.getsockname()[1]

    assert not serves_pages(Address(HOST, port))
