"""The certificate that a gateway serves with, in real handshakes."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from structlog.testing import capture_logs

from authorities import (
    DAY,
    HOST,
    Clock,
    chain_of,
    channel_to,
    echo,
    echo_over,
    echoing,
    expired,
    key_of,
    own_pem,
    premature,
    root_of,
    shake,
    shaking,
    write,
    written,
)
from healthomics.v1.run_service_pb2_grpc import RunServiceStub
from healthomics_gateway.app import Gateway
from healthomics_gateway.certificates import TlsFiles, TlsFilesError, when_text
from healthomics_gateway.tls import LOOK_SECONDS
from support import aws_at, calling, gateway, get_run, refused

NOWHERE = "http://127.0.0.1:9"  # no test here asks HealthOmics
NO_PAIR = "tls.cert_file and tls.key_file: not a certificate and its key, in PEM"
NO_FILE = "no file of this path can be read"
NOT_ITS_KEY = "tls.cert_file and tls.key_file: the key isn't the certificate's"
CUT = "it doesn't end where a certificate ends"


def set_to(files: TlsFiles) -> dict[str, str]:
    """Write the settings that name these files."""
    return {
        "GATEWAY_TLS__CERT_FILE": str(files.cert_file),
        "GATEWAY_TLS__KEY_FILE": str(files.key_file),
    }


@asynccontextmanager
async def calling_with_tls(
    served: Gateway, trusted: bytes
) -> AsyncIterator[RunServiceStub]:
    """Open a channel that trusts one authority."""
    async with channel_to(str(served.address), trusted) as channel:
        yield RunServiceStub(channel)


async def test_client_that_trusts_the_authority_is_answered(tmp_path: Path) -> None:
    """A certificate and a key from files serve TLS."""
    authority = trustme.CA()
    files = set_to(written(authority.issue_cert(HOST), tmp_path))
    async with (
        gateway(aws_at(NOWHERE), **files) as served,
        calling_with_tls(served, root_of(authority)) as stub,
    ):
        told = await refused(get_run(stub, "not an id"))

    assert "INVALID_REQUEST" == told.reason


async def test_chain_is_served_whole(tmp_path: Path) -> None:
    """A client that knows the root alone trusts what an authority below it issued."""
    root = trustme.CA()
    files = set_to(written(root.create_child_ca().issue_cert(HOST), tmp_path))
    async with (
        gateway(aws_at(NOWHERE), **files) as served,
        calling_with_tls(served, root_of(root)) as stub,
    ):
        told = await refused(get_run(stub, "not an id"))

    assert "INVALID_REQUEST" == told.reason


async def test_client_of_another_authority_does_not_call(tmp_path: Path) -> None:
    """A client that doesn't trust the certificate sends no call."""
    files = set_to(written(trustme.CA().issue_cert(HOST), tmp_path))
    async with (
        gateway(aws_at(NOWHERE), **files) as served,
        calling_with_tls(served, root_of(trustme.CA())) as stub,
    ):
        told = await refused(get_run(stub, "not an id"))

    assert grpc.StatusCode.UNAVAILABLE is told.code
    assert {} == told.details


async def test_plaintext_client_is_refused(tmp_path: Path) -> None:
    """Where TLS is served nothing is answered in plaintext."""
    files = set_to(written(trustme.CA().issue_cert(HOST), tmp_path))
    async with (
        gateway(aws_at(NOWHERE), **files) as served,
        calling(served) as stub,
    ):
        told = await refused(get_run(stub, "not an id"))

    assert grpc.StatusCode.UNAVAILABLE is told.code
    assert {} == told.details


def faults_of(files: TlsFiles) -> list[str]:
    """List the faults of files."""
    with pytest.raises(TlsFilesError) as caught:
        files.load(datetime.now(UTC))
    return list(caught.value.args)


def locked(certificate: trustme.LeafCert) -> bytes:
    """A certificate's key as PEM that needs a password."""
    return load_pem_private_key(key_of(certificate), password=None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"hunter2")
    )


def self_signed(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
) -> tuple[bytes, bytes]:
    """A certificate of this key, and the key, as PEM."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - DAY, now + DAY)
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )
    return certificate, key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )


def test_files_that_fit_are_loaded(tmp_path: Path) -> None:
    """What was read is told with its last day and its fingerprint."""
    certificate = trustme.CA().issue_cert(HOST)
    loaded = written(certificate, tmp_path).load(datetime.now(UTC))

    parsed = x509.load_pem_x509_certificate(own_pem(certificate))
    assert (chain_of(certificate), key_of(certificate), b"") == loaded.contents
    assert parsed.not_valid_after_utc == loaded.not_after
    assert parsed.fingerprint(hashes.SHA256()).hex() == loaded.fingerprint


@pytest.mark.parametrize(
    ("cert", "key", "fault"),
    [
        pytest.param(b"", None, NO_PAIR, id="empty certificate"),
        pytest.param(None, b"", NO_PAIR, id="empty key"),
        pytest.param(b"\x30\x82\x01\x02", None, NO_PAIR, id="no PEM"),
        pytest.param(None, b"-----BEGIN PRIVATE KEY-----\nMI", NO_PAIR, id="cut key"),
    ],
)
def test_pair_that_is_none_is_a_fault(
    tmp_path: Path, cert: bytes | None, key: bytes | None, fault: str
) -> None:
    """Files that hold something else are told in one sentence, without content."""
    files = written(trustme.CA().issue_cert(HOST), tmp_path)
    if cert is not None:
        files.cert_file.write_bytes(cert)
    if key is not None:
        files.key_file.write_bytes(key)

    assert fault in faults_of(files)


def test_key_of_another_certificate_is_a_fault(tmp_path: Path) -> None:
    """The key must be the certificate's."""
    authority = trustme.CA()
    files = written(authority.issue_cert(HOST), tmp_path)
    files.key_file.write_bytes(key_of(authority.issue_cert(HOST)))

    assert [NOT_ITS_KEY] == faults_of(files)


def test_key_with_a_password_is_a_fault(tmp_path: Path) -> None:
    """A key that needs a password isn't asked for it at the terminal."""
    certificate = trustme.CA().issue_cert(HOST)
    files = written(certificate, tmp_path)
    files.key_file.write_bytes(locked(certificate))

    told = "tls.key_file: the key needs a password; write it without one"
    assert [told] == faults_of(files)


def test_key_that_grpc_cannot_use_is_a_fault(tmp_path: Path) -> None:
    """A key that OpenSSL takes and gRPC doesn't is told before it is served."""
    files = written(trustme.CA().issue_cert(HOST), tmp_path)
    cert, key = self_signed(ec.generate_private_key(ec.SECP256K1()))
    files.cert_file.write_bytes(cert)
    files.key_file.write_bytes(key)

    told = "tls.key_file: no TLS with a key of this kind; take P-256 or RSA"
    assert [told] == faults_of(files)


def test_key_that_openssl_refuses_is_a_fault(tmp_path: Path) -> None:
    """A key that is too short is told by OpenSSL's name for it."""
    files = written(trustme.CA().issue_cert(HOST), tmp_path)
    short = rsa.generate_private_key(65_537, 1024)  # noqa: S505  # what is refused
    cert, key = self_signed(short)
    files.cert_file.write_bytes(cert)
    files.key_file.write_bytes(key)

    told = "tls.cert_file and tls.key_file: OpenSSL refuses them, EE_KEY_TOO_SMALL"
    assert [told] == faults_of(files)


def test_expired_certificate_is_a_fault(tmp_path: Path) -> None:
    """It is told with the time when it expired."""
    certificate = expired(trustme.CA())
    parsed = x509.load_pem_x509_certificate(own_pem(certificate))
    until = when_text(parsed.not_valid_after_utc)

    told = f"tls.cert_file: the certificate expired on {until}"
    assert [told] == faults_of(written(certificate, tmp_path))


def test_premature_certificate_is_a_fault(tmp_path: Path) -> None:
    """It is told with the time from which it is valid."""
    certificate = premature(trustme.CA())
    parsed = x509.load_pem_x509_certificate(own_pem(certificate))
    since = when_text(parsed.not_valid_before_utc)

    told = f"tls.cert_file: the certificate isn't valid before {since}"
    assert [told] == faults_of(written(certificate, tmp_path))


@pytest.mark.parametrize("left_out", [1, 10, 40, 400, -8])
def test_half_written_chain_is_a_fault(tmp_path: Path, left_out: int) -> None:
    """A chain that is cut within its second certificate isn't served without it."""
    certificate = trustme.CA().create_child_ca().issue_cert(HOST)
    files = written(certificate, tmp_path)
    first, second = (blob.bytes() for blob in certificate.cert_chain_pems)
    files.cert_file.write_bytes(first + second.rstrip()[:-left_out])

    assert [f"tls.cert_file: {CUT}"] == faults_of(files)


def test_files_that_cannot_be_read_are_all_told(tmp_path: Path) -> None:
    """No fault hides another, and none tells the path, which may be a key."""
    secret = tmp_path / "secret"
    files = TlsFiles(
        cert_file=secret,
        key_file=Path("se\0cret"),
        client_ca_file=tmp_path,
        client_auth="required",
    )
    names = ("tls.cert_file", "tls.key_file", "tls.client_ca_file")
    assert [f"{name}: {NO_FILE}" for name in names] == faults_of(files)


def test_authorities_of_clients_that_are_none_are_a_fault(tmp_path: Path) -> None:
    """Where clients are asked for certificates, their authorities are needed."""
    certificate = trustme.CA().issue_cert(HOST)
    files = written(certificate, tmp_path, clients=trustme.CA(), client_auth="optional")
    assert files.client_ca_file
    whole = files.client_ca_file.read_bytes()
    faults = []
    for content in (key_of(certificate), whole + whole.rstrip()[:-9]):
        files.client_ca_file.write_bytes(content)
        faults += faults_of(files)

    assert [
        "tls.client_ca_file: no certificates can be read from it",
        f"tls.client_ca_file: {CUT}",
    ] == faults


def test_authorities_are_needed_where_clients_are_asked(tmp_path: Path) -> None:
    """Without a file of authorities no client could be let in."""
    files = written(trustme.CA().issue_cert(HOST), tmp_path, client_auth="required")

    told = "tls.client_ca_file: no certificates can be read from it"
    assert [told] == faults_of(files)


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
async def test_tls_of_today_is_spoken(tmp_path: Path, version: str) -> None:
    """TLS 1.2 and 1.3 are served."""
    authority = trustme.CA()
    context = shaking(authority, version=ssl.TLSVersion[version])
    async with echoing(written(authority.issue_cert(HOST), tmp_path)) as served:
        shaken = await shake(served.port, context)

    assert shaken
    assert version.replace("_", ".") == shaken.version


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_tls_of_the_past_is_not_spoken(tmp_path: Path) -> None:
    """A client of TLS 1.1, which another server takes, is refused."""
    authority = trustme.CA()
    certificate = authority.issue_cert(HOST)
    context = shaking(authority, version=ssl.TLSVersion.TLSv1_1)
    async with (
        lenient(certificate) as port,
        echoing(written(certificate, tmp_path)) as served,
    ):
        elsewhere = await shake(port, context)
        shaken = await shake(served.port, context)

    assert elsewhere
    assert "TLSv1.1" == elsewhere.version
    assert None is shaken


async def test_client_is_not_asked_where_none_is_set(tmp_path: Path) -> None:
    """A client's certificate isn't looked at, so that it is nobody's."""
    authority = trustme.CA()
    files = written(authority.issue_cert(HOST), tmp_path)
    async with echoing(files) as served:
        await echo(served.address, root_of(authority), trustme.CA().issue_cert("a"))
        (client,) = served.echo.clients

    assert client
    assert None is client.certificate
    assert client.peer.startswith(f"ipv4:{HOST}:")


async def test_client_with_a_certificate_is_let_in(tmp_path: Path) -> None:
    """Where one is required, the one that was verified is told, as PEM."""
    authority, clients = trustme.CA(), trustme.CA()
    shown = clients.issue_cert("caller@example.org")
    files = requiring(authority, clients, tmp_path)
    async with echoing(files) as served:
        await echo(served.address, root_of(authority), shown)
        (client,) = served.echo.clients

    assert client
    assert own_pem(shown) == client.certificate
    assert client.peer.startswith(f"ipv4:{HOST}:")


async def test_client_of_an_authority_below_is_let_in(tmp_path: Path) -> None:
    """An authority that another one vouches for can be the one of clients."""
    authority, root = trustme.CA(), trustme.CA()
    clients = root.create_child_ca()
    shown, sibling = clients.issue_cert("a"), root.create_child_ca().issue_cert("b")
    async with echoing(requiring(authority, clients, tmp_path)) as served:
        let_in = await shake(served.port, shaking(authority, shown))
        refused_one = await shake(served.port, shaking(authority, sibling))

    assert let_in
    assert None is refused_one


async def test_client_without_a_good_certificate_is_not_let_in(tmp_path: Path) -> None:
    """Where one is required, none, another authority's and old ones are refused."""
    authority, clients = trustme.CA(), trustme.CA()
    bad = (None, trustme.CA().issue_cert("a"), expired(clients), premature(clients))
    async with echoing(requiring(authority, clients, tmp_path)) as served:
        codes = [
            (await refused(echo(served.address, root_of(authority), shown))).code
            for shown in bad
        ]

    assert [grpc.StatusCode.UNAVAILABLE] * len(bad) == codes
    assert [] == served.echo.clients


async def test_look_is_taken_every_two_seconds(tmp_path: Path) -> None:
    """The files are looked at again and again, and unchanged ones change nothing."""
    files = written(trustme.CA().issue_cert(HOST), tmp_path)
    with capture_logs() as log:
        async with echoing(files) as served:
            context = served.tls.context()
            await served.look()
            await served.look()

    assert 2.0 == LOOK_SECONDS == served.steps.seconds
    assert context is served.tls.context()
    assert "" == served.tls.fault
    assert [] == log


async def test_replaced_certificate_is_logged(tmp_path: Path) -> None:
    """The log has the last day and the fingerprint of what is served now."""
    authority = trustme.CA()
    files = written(authority.issue_cert(HOST), tmp_path)
    with capture_logs() as log:
        async with echoing(files) as served:
            write(authority.issue_cert(HOST), tmp_path)
            await served.look()
            (event,) = log

    loaded = files.load(datetime.now(UTC))
    assert {
        "event": "certificate_replaced",
        "log_level": "info",
        "not_after": when_text(loaded.not_after),
        "fingerprint": loaded.fingerprint,
    } == event


async def test_fault_is_told_until_it_is_mended(tmp_path: Path) -> None:
    """Each bad state is logged once, and told as long as it lasts."""
    authority = trustme.CA()
    certificate = authority.issue_cert(HOST)
    files = written(certificate, tmp_path)
    told = []
    with capture_logs() as log:
        async with echoing(files) as served:
            for key in (b"", b"", key_of(authority.issue_cert(HOST))):
                files.key_file.write_bytes(key)
                await served.look()
                told.append(served.tls.fault)
            files.key_file.unlink()
            await served.look()
            told.append(served.tls.fault)
            files.key_file.write_bytes(key_of(certificate))
            await served.look()

    faults = [NO_PAIR, NOT_ITS_KEY, f"tls.key_file: {NO_FILE}"]
    assert [faults[0], *faults] == told
    assert "" == served.tls.fault
    *warnings, restored = log
    assert [(fault,) for fault in faults] == [each["faults"] for each in warnings]
    assert {"certificate_fault"} == {each["event"] for each in warnings}
    assert {"warning"} == {each["log_level"] for each in warnings}
    assert "certificate_restored" == restored["event"]


async def test_certificate_that_expires_while_served_is_told(tmp_path: Path) -> None:
    """What is served isn't valid any more: that is a fault, too, told beside others."""
    clock = Clock()
    certificate = trustme.CA().issue_cert(HOST, not_after=clock() + DAY)
    files = written(certificate, tmp_path)
    until = when_text(files.load(clock()).not_after)
    expiry = f"tls.cert_file: the certificate served expired on {until}"
    with capture_logs() as log:
        async with echoing(files, now=clock) as served:
            clock.off = 2 * DAY
            await served.look()
            alone = served.tls.fault
            files.key_file.write_bytes(b"")
            await served.look()
            beside = served.tls.fault

    assert expiry == alone
    assert beside.startswith(NO_PAIR)
    assert beside.endswith(expiry)
    assert ["certificate_fault"] * 2 == [each["event"] for each in log]


async def test_resumed_session_ends_with_its_authority(tmp_path: Path) -> None:
    """A client can resume its session, but not where its authority has gone since."""
    authority, clients = trustme.CA(), trustme.CA()
    context = shaking(
        authority, clients.issue_cert("a"), version=ssl.TLSVersion.TLSv1_2
    )
    files = requiring(authority, clients, tmp_path)
    assert files.client_ca_file
    async with echoing(files) as served:
        first = await shake(served.port, context)
        assert first
        resumed = await shake(served.port, context, first.session)
        files.client_ca_file.write_bytes(root_of(trustme.CA()))
        await served.look()
        late = await shake(served.port, context, first.session)

    assert resumed
    assert resumed.is_resumed
    assert None is late


async def test_what_is_unchanged_is_not_made_anew(tmp_path: Path) -> None:
    """After a replacement sessions can be resumed as before it."""
    authority = trustme.CA()
    context = shaking(authority, version=ssl.TLSVersion.TLSv1_2)
    async with echoing(written(authority.issue_cert(HOST), tmp_path)) as served:
        write(authority.issue_cert(HOST), tmp_path)
        await served.look()
        first = await shake(served.port, context)
        assert first
        resumed = await shake(served.port, context, first.session)

    assert resumed
    assert resumed.is_resumed


async def test_authority_of_clients_is_replaced(tmp_path: Path) -> None:
    """New handshakes know the new authority alone; connections that are there stay."""
    authority, before, after = trustme.CA(), trustme.CA(), trustme.CA()
    files = requiring(authority, before, tmp_path)
    assert files.client_ca_file
    old, new = before.issue_cert("old"), after.issue_cert("new")
    trusted = root_of(authority)
    with capture_logs() as log:
        async with (
            echoing(files) as served,
            channel_to(served.address, trusted, old) as channel,
        ):
            await echo_over(channel)
            files.client_ca_file.write_bytes(root_of(after))
            await served.look()
            told = await refused(echo(served.address, trusted, old))
            await echo(served.address, trusted, new)
            await echo_over(channel)

    assert grpc.StatusCode.UNAVAILABLE is told.code
    assert [own_pem(old), own_pem(new), own_pem(old)] == [
        client.certificate for client in served.echo.clients if client
    ]
    assert ["client_ca_replaced"] == [each["event"] for each in log]


def requiring(authority: trustme.CA, clients: trustme.CA, folder: Path) -> TlsFiles:
    """Write what a server needs that insists on certificates of `clients`."""
    certificate = authority.issue_cert(HOST)
    return written(certificate, folder, clients=clients, client_auth="required")


@asynccontextmanager
async def lenient(certificate: trustme.LeafCert) -> AsyncIterator[int]:
    """Serve a byte over any TLS that a client speaks."""

    async def say(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b".")
        await writer.drain()
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1_1
    certificate.configure_cert(context)
    server = await asyncio.start_server(say, HOST, 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]
