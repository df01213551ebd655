"""The certificate that a gateway serves, in real handshakes."""

from __future__ import annotations

import asyncio
import ssl
import sys
import warnings
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from structlog.testing import capture_logs

from healthomics.v1.run_service_pb2_grpc import RunServiceStub
from healthomics_gateway.app.gateway import Gateway
from healthomics_gateway.files import NOT_REGULAR, TOO_LARGE
from healthomics_gateway.tls.files import TlsFiles, TlsFilesError, when_text
from healthomics_gateway.tls.reloader import CHECK_SECONDS
from testkit.authorities import (
    DAY,
    HOST,
    aged,
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
    tls_settings,
    write,
    written,
)
from testkit.builders import aws_at, calling, gateway, get_run, refused
from testkit.clocks import OffsetClock
from testkit.connections import ConnectionServer

NOWHERE = "http://127.0.0.1:9"  # no test here asks HealthOmics
NO_CERTIFICATE = "it contains no certificate in PEM"
NO_KEY = "tls.key_file: it contains no private key in PEM"
NO_FILE = "no file can be read at this path"
NOT_ITS_KEY = "tls.cert_file and tls.key_file: the key isn't the certificate's"
AUTHORITY = x509.BasicConstraints(ca=True, path_length=None)
NO_AUTHORITY = x509.BasicConstraints(ca=False, path_length=None)
SIGNS_NO_CERTIFICATES = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)
CUT = "it contains an incomplete block"
UNUSABLE = (
    "tls.key_file: gRPC clients don't support a key of this kind; use P-256, P-384,"
    " or RSA with 2048 to 16384 bits"
)


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
    files = tls_settings(authority.issue_cert(HOST), tmp_path)
    async with (
        gateway(aws_at(NOWHERE), **files) as served,
        calling_with_tls(served, root_of(authority)) as stub,
    ):
        error = await refused(get_run(stub, "not an id"))

    assert "INVALID_REQUEST" == error.reason


async def test_whole_chain_is_served(tmp_path: Path) -> None:
    """A client that trusts only the root accepts an intermediate one's certificate."""
    root = trustme.CA()
    files = tls_settings(root.create_child_ca().issue_cert(HOST), tmp_path)
    async with (
        gateway(aws_at(NOWHERE), **files) as served,
        calling_with_tls(served, root_of(root)) as stub,
    ):
        error = await refused(get_run(stub, "not an id"))

    assert "INVALID_REQUEST" == error.reason


async def test_client_of_another_authority_does_not_call(tmp_path: Path) -> None:
    """A client that doesn't trust the certificate sends no call."""
    files = tls_settings(trustme.CA().issue_cert(HOST), tmp_path)
    async with (
        gateway(aws_at(NOWHERE), **files) as served,
        calling_with_tls(served, root_of(trustme.CA())) as stub,
    ):
        error = await refused(get_run(stub, "not an id"))

    assert grpc.StatusCode.UNAVAILABLE is error.code
    assert {} == error.details


async def test_plaintext_client_is_refused(tmp_path: Path) -> None:
    """A listener with TLS doesn't answer in plaintext."""
    files = tls_settings(trustme.CA().issue_cert(HOST), tmp_path)
    async with (
        gateway(aws_at(NOWHERE), **files) as served,
        calling(served) as stub,
    ):
        error = await refused(get_run(stub, "not an id"))

    assert grpc.StatusCode.UNAVAILABLE is error.code
    assert {} == error.details


def faults_of(files: TlsFiles) -> list[str]:
    """Return the faults of files."""
    with pytest.raises(TlsFilesError) as caught:
        files.load(datetime.now(UTC))
    return list(caught.value.args)


def locked(certificate: trustme.LeafCert, form: PrivateFormat) -> bytes:
    """Return a certificate's key as PEM that needs a password."""
    return load_pem_private_key(key_of(certificate), password=None).private_bytes(
        Encoding.PEM, form, BestAvailableEncryption(b"hunter2")
    )


def self_signed(
    key: Any,
    names: Sequence[x509.GeneralName] = (),
    extensions: Sequence[x509.ExtensionType] = (),
) -> tuple[bytes, bytes]:
    """Return a certificate of this key with more names and extensions, and the key."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    now = datetime.now(UTC)
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    address = x509.IPAddress(ip_address(HOST))
    builder = x509.CertificateBuilder(
        name, name, key.public_key(), 1, now - DAY, now + DAY
    )
    for each in (x509.SubjectAlternativeName([address, *names]), *extensions):
        builder = builder.add_extension(each, critical=False)
    certificate = builder.sign(key, algorithm).public_bytes(Encoding.PEM)
    return certificate, key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )


def test_valid_files_are_loaded(tmp_path: Path) -> None:
    """The loaded certificate has its expiry and fingerprint."""
    certificate = trustme.CA().issue_cert(HOST)
    loaded = written(certificate, tmp_path).load(datetime.now(UTC))

    parsed = x509.load_pem_x509_certificate(own_pem(certificate))
    assert (chain_of(certificate), key_of(certificate), b"") == loaded.read
    chain, key, _ = loaded.served
    assert chain_of(certificate) == chain
    assert parsed.public_key() == load_pem_private_key(key, None).public_key()
    assert parsed.not_valid_after_utc == loaded.not_after
    assert parsed.fingerprint(hashes.SHA256()).hex() == loaded.fingerprint


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        pytest.param("cert.pem", b"", NO_CERTIFICATE, id="empty certificate"),
        pytest.param("cert.pem", b"\x30\x82\x01\x02", NO_CERTIFICATE, id="no PEM"),
        pytest.param("key.pem", b"", NO_KEY, id="empty key"),
        pytest.param("key.pem", b"-----BEGIN PRIVATE KEY-----\nMI", CUT, id="cut key"),
    ],
)
def test_file_with_other_content_is_a_fault(
    tmp_path: Path, name: str, content: bytes, fault: str
) -> None:
    """The fault names the setting, and doesn't quote the file."""
    files = written(trustme.CA().issue_cert(HOST), tmp_path)
    (tmp_path / name).write_bytes(content)

    (found,) = faults_of(files)
    assert found.endswith(fault)
    assert found.startswith(f"tls.{name.partition('.')[0]}_file: ")


BLOCK = b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"
REVOKED = BLOCK.replace(b"CERTIFICATE", b"X509 CRL")


def indented(pem: bytes) -> bytes:
    """Indent each line, as in a file that was copied from YAML."""
    return b"".join(b"  " + line for line in pem.splitlines(keepends=True))


@pytest.mark.guarantee("checked-pem")
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda pem: b"\xef\xbb\xbf" + pem, id="byte order mark"),
        pytest.param(indented, id="indented"),
        pytest.param(lambda pem: pem.replace(b"\n", b"\r\n"), id="CRLF"),
        pytest.param(lambda pem: b"# ours \xff\n" + pem + b"\nend\n", id="text around"),
        pytest.param(lambda pem: pem.rstrip(), id="no last newline"),
    ],
)
async def test_text_around_pem_is_accepted(tmp_path: Path, change: Any) -> None:
    """gRPC, which accepts less than other readers, gets the parsed PEM."""
    authority, clients = trustme.CA(), trustme.CA()
    files = requiring(authority, clients, tmp_path)
    caller = clients.issue_cert("caller@example.org")
    for name in ("cert.pem", "key.pem", "client_ca.pem"):
        file = tmp_path / name
        file.write_bytes(change(file.read_bytes()))
    async with echoing(files) as served:
        answer = await echo(served.address, root_of(authority), caller)

    assert b"echo" == answer


@pytest.mark.guarantee("checked-pem")
@pytest.mark.parametrize(
    ("name", "setting", "more", "fault"),
    [
        ("cert.pem", "cert_file", BLOCK, "certificate 2 can't be read"),
        ("client_ca.pem", "client_ca_file", BLOCK, "certificate 2 can't be read"),
        ("client_ca.pem", "client_ca_file", b"-----END", CUT),
        ("client_ca.pem", "client_ca_file", b"a " + BLOCK, CUT),
        (
            "client_ca.pem",
            "client_ca_file",
            REVOKED,
            "block 2 isn't a certificate but X509 CRL",
        ),
    ],
)
def test_block_that_would_be_dropped_is_a_fault(
    tmp_path: Path, name: str, setting: str, more: bytes, fault: str
) -> None:
    """No part of a file is ignored silently."""
    files = requiring(trustme.CA(), trustme.CA(), tmp_path)
    with (tmp_path / name).open("ab") as file:
        file.write(more)

    assert [f"tls.{setting}: {fault}"] == faults_of(files)


def test_old_certificates_are_loaded_in_threads_without_a_warning(
    tmp_path: Path,
) -> None:
    """Listeners read files concurrently, and no warning filter changes."""
    files = written(trustme.CA().issue_cert(HOST), tmp_path)
    files.cert_file.write_text(aged(files.cert_file))
    before, interval = list(warnings.filters), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            loads = [pool.submit(files.load, datetime.now(UTC)) for _ in range(100)]
    finally:
        sys.setswitchinterval(interval)

    assert before == list(warnings.filters)
    assert all(each.result().not_after for each in loads)


def test_second_key_is_a_fault(tmp_path: Path) -> None:
    """A file with two keys is a fault, as either may be meant."""
    files = written(trustme.CA().issue_cert(HOST), tmp_path)
    files.key_file.write_bytes(files.key_file.read_bytes() * 2)

    assert ["tls.key_file: it contains more than one private key"] == faults_of(files)


def test_key_of_another_certificate_is_a_fault(tmp_path: Path) -> None:
    """The key must be the certificate's."""
    authority = trustme.CA()
    files = written(authority.issue_cert(HOST), tmp_path)
    files.key_file.write_bytes(key_of(authority.issue_cert(HOST)))

    assert [NOT_ITS_KEY] == faults_of(files)


@pytest.mark.parametrize(
    "form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL]
)
def test_key_with_a_password_is_a_fault(tmp_path: Path, form: PrivateFormat) -> None:
    """A key with a password is a fault; the terminal doesn't ask for the password."""
    certificate = trustme.CA().issue_cert(HOST)
    files = written(certificate, tmp_path)
    files.key_file.write_bytes(locked(certificate, form))

    fault = "tls.key_file: the key is encrypted; save it without a password"
    assert [fault] == faults_of(files)


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(ec.generate_private_key(ec.SECP256R1()), id="P-256"),
        pytest.param(ec.generate_private_key(ec.SECP384R1()), id="P-384"),
        pytest.param(rsa.generate_private_key(65_537, 2048), id="RSA 2048"),
    ],
)
async def test_client_connects_to_each_supported_key(tmp_path: Path, key: Any) -> None:
    """A gRPC client completes a handshake with each kind of key that is accepted."""
    files = written(trustme.CA().issue_cert(HOST), tmp_path)
    cert, pem = self_signed(key)
    files.cert_file.write_bytes(cert)
    files.key_file.write_bytes(pem)
    async with echoing(files) as served:
        answer = await echo(served.address, cert)

    assert b"echo" == answer


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(ec.generate_private_key(ec.SECP256K1()), id="secp256k1"),
        pytest.param(ec.generate_private_key(ec.SECP521R1()), id="P-521"),
        pytest.param(ec.generate_private_key(ec.SECP224R1()), id="P-224"),
        pytest.param(ed25519.Ed25519PrivateKey.generate(), id="Ed25519"),
        pytest.param(rsa.generate_private_key(65_537, 1024), id="RSA 1024"),  # noqa: S505  # what is refused
    ],
)
def test_key_that_clients_cannot_use_is_a_fault(tmp_path: Path, key: Any) -> None:
    """A key that OpenSSL accepts and gRPC's clients don't is a fault."""
    files = written(trustme.CA().issue_cert(HOST), tmp_path)
    cert, pem = self_signed(key)
    files.cert_file.write_bytes(cert)
    files.key_file.write_bytes(pem)

    assert [UNUSABLE] == faults_of(files)


def test_expired_certificate_is_a_fault(tmp_path: Path) -> None:
    """The fault says when the certificate expired."""
    certificate = expired(trustme.CA())
    parsed = x509.load_pem_x509_certificate(own_pem(certificate))
    until = when_text(parsed.not_valid_after_utc)

    fault = f"tls.cert_file: the certificate expired on {until}"
    assert [fault] == faults_of(written(certificate, tmp_path))


def test_premature_certificate_is_a_fault(tmp_path: Path) -> None:
    """The fault says from when the certificate is valid."""
    certificate = premature(trustme.CA())
    parsed = x509.load_pem_x509_certificate(own_pem(certificate))
    since = when_text(parsed.not_valid_before_utc)

    fault = f"tls.cert_file: the certificate isn't valid before {since}"
    assert [fault] == faults_of(written(certificate, tmp_path))


@pytest.mark.parametrize("left_out", [1, 10, 40, 400, -8])
def test_half_written_chain_is_a_fault(tmp_path: Path, left_out: int) -> None:
    """A chain whose second certificate is incomplete isn't served without it."""
    certificate = trustme.CA().create_child_ca().issue_cert(HOST)
    files = written(certificate, tmp_path)
    first, second = (blob.bytes() for blob in certificate.cert_chain_pems)
    files.cert_file.write_bytes(first + second.rstrip()[:-left_out])

    assert [f"tls.cert_file: {CUT}"] == faults_of(files)


def test_all_unreadable_files_are_reported(tmp_path: Path) -> None:
    """Each unreadable file is a fault, without its path, which may be a key."""
    secret = tmp_path / "secret"
    files = TlsFiles(
        cert_file=secret,
        key_file=Path("se\0cret"),
        client_ca_file=tmp_path,
    )
    names = ("tls.cert_file", "tls.key_file", "tls.client_ca_file")
    whys = (NO_FILE, NO_FILE, NOT_REGULAR)
    assert [f"{name}: {why}" for name, why in zip(names, whys, strict=True)] == (
        faults_of(files)
    )


def test_too_large_file_is_a_fault(tmp_path: Path) -> None:
    """A file beyond the size limit is a fault."""
    files = requiring(trustme.CA(), trustme.CA(), tmp_path)
    for path in (files.cert_file, files.key_file, files.client_ca_file):
        assert path
        with path.open("ab") as file:
            file.write(b"\n" * 2**20)

    names = ("tls.cert_file", "tls.key_file", "tls.client_ca_file")
    assert [f"{name}: {TOO_LARGE}" for name in names] == faults_of(files)


def test_chain_that_is_too_long_is_a_fault(tmp_path: Path) -> None:
    """A chain has at most ten certificates, as clients refuse much longer ones."""
    certificate = trustme.CA().issue_cert(HOST)
    files = written(certificate, tmp_path)
    files.cert_file.write_bytes(own_pem(certificate) * 10)
    files.load(datetime.now(UTC))
    files.cert_file.write_bytes(own_pem(certificate) * 11)

    assert ["tls.cert_file: a chain has at most 10 certificates"] == faults_of(files)


def test_chain_that_is_too_large_is_a_fault(tmp_path: Path) -> None:
    """A chain of one certificate with many names can be too large for clients."""
    files = written(trustme.CA().issue_cert(HOST), tmp_path)
    key = ec.generate_private_key(ec.SECP256R1())
    names = [x509.DNSName(f"{at:060}.example.org") for at in range(1400)]
    files.cert_file.write_bytes(self_signed(key, names)[0])

    assert "tls.cert_file: a chain has at most 100,000 bytes in DER" in faults_of(files)


@pytest.mark.guarantee("authority-certificates")
async def test_client_s_certificate_does_not_replace_the_authority(
    tmp_path: Path,
) -> None:
    """The former authority is kept, as gRPC would accept what a client has signed."""
    authority, clients = trustme.CA(), trustme.CA()
    files = requiring(authority, clients, tmp_path)
    assert files.client_ca_file
    caller = clients.issue_cert("caller@example.org")
    async with echoing(files) as served:
        files.client_ca_file.write_bytes(own_pem(caller))
        await served.look()
        answer = await echo(served.address, root_of(authority), caller)
        fault = served.tls.fault

    assert b"echo" == answer
    assert "tls.client_ca_file: certificate 1 isn't that of an authority" == fault


@pytest.mark.parametrize(
    "extensions",
    [
        pytest.param([NO_AUTHORITY], id="constraints"),
        pytest.param([AUTHORITY, SIGNS_NO_CERTIFICATES], id="uses"),
    ],
)
def test_certificate_that_may_not_issue_others_is_no_authority(
    tmp_path: Path, extensions: list[x509.ExtensionType]
) -> None:
    """Basic constraints and key usage say whether a certificate may issue others."""
    files = requiring(trustme.CA(), trustme.CA(), tmp_path)
    assert files.client_ca_file
    key = ec.generate_private_key(ec.SECP256R1())
    files.client_ca_file.write_bytes(self_signed(key, extensions=extensions)[0])

    assert [
        "tls.client_ca_file: certificate 1 isn't that of an authority"
    ] == faults_of(files)


@pytest.mark.guarantee("authority-certificates")
def test_client_s_certificate_in_place_of_its_authority_is_a_fault(
    tmp_path: Path,
) -> None:
    """A client's certificate is a fault; a root without extensions is accepted."""
    certificate, authority = trustme.CA().issue_cert(HOST), trustme.CA()
    files = written(certificate, tmp_path, clients=authority)
    assert files.client_ca_file
    old_root, _ = self_signed(ec.generate_private_key(ec.SECP256R1()))
    files.client_ca_file.write_bytes(root_of(authority) + old_root)
    files.load(datetime.now(UTC))
    files.client_ca_file.write_bytes(root_of(authority) + own_pem(certificate))

    assert [
        "tls.client_ca_file: certificate 2 isn't that of an authority"
    ] == faults_of(files)


def test_client_ca_file_without_authorities_is_a_fault(tmp_path: Path) -> None:
    """If clients need certificates, valid authorities are needed."""
    certificate = trustme.CA().issue_cert(HOST)
    files = written(certificate, tmp_path, clients=trustme.CA())
    assert files.client_ca_file
    whole = files.client_ca_file.read_bytes()
    faults = []
    for content in (key_of(certificate), whole + whole.rstrip()[:-9]):
        files.client_ca_file.write_bytes(content)
        faults += faults_of(files)

    assert [
        "tls.client_ca_file: block 1 isn't a certificate but EC PRIVATE KEY",
        f"tls.client_ca_file: {CUT}",
    ] == faults


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
async def test_tls_1_2_and_1_3_are_served(tmp_path: Path, version: str) -> None:
    """TLS 1.2 and 1.3 are served."""
    authority = trustme.CA()
    context = shaking(authority, version=ssl.TLSVersion[version])
    async with echoing(written(authority.issue_cert(HOST), tmp_path)) as served:
        shaken = await shake(served.port, context)

    assert shaken
    assert version.replace("_", ".") == shaken.version


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_tls_1_1_is_refused(tmp_path: Path) -> None:
    """A client of TLS 1.1, which another server accepts, is refused."""
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


async def test_client_certificate_is_ignored_without_client_auth(
    tmp_path: Path,
) -> None:
    """Without `client_auth` a client's certificate proves no identity."""
    authority = trustme.CA()
    files = written(authority.issue_cert(HOST), tmp_path)
    async with echoing(files) as served:
        await echo(served.address, root_of(authority), trustme.CA().issue_cert("a"))

    assert [None] == served.echo.certificates


async def test_client_with_a_certificate_is_accepted(tmp_path: Path) -> None:
    """A required certificate is verified and available as PEM."""
    authority, clients = trustme.CA(), trustme.CA()
    shown = clients.issue_cert("caller@example.org")
    files = requiring(authority, clients, tmp_path)
    async with echoing(files) as served:
        await echo(served.address, root_of(authority), shown)

    assert [own_pem(shown)] == served.echo.certificates


async def test_intermediate_authority_of_clients_is_accepted(tmp_path: Path) -> None:
    """The authority of clients may be an intermediate one."""
    authority, root = trustme.CA(), trustme.CA()
    clients = root.create_child_ca()
    shown, sibling = clients.issue_cert("a"), root.create_child_ca().issue_cert("b")
    async with echoing(requiring(authority, clients, tmp_path)) as served:
        let_in = await shake(served.port, shaking(authority, shown))
        refused_one = await shake(served.port, shaking(authority, sibling))

    assert let_in
    assert None is refused_one


@pytest.mark.guarantee("authentication")
async def test_client_without_a_valid_certificate_is_refused(tmp_path: Path) -> None:
    """No certificate, one of another authority and an expired one are refused."""
    authority, clients = trustme.CA(), trustme.CA()
    bad = (None, trustme.CA().issue_cert("a"), expired(clients), premature(clients))
    async with echoing(requiring(authority, clients, tmp_path)) as served:
        codes = [
            (await refused(echo(served.address, root_of(authority), shown))).code
            for shown in bad
        ]

    assert [grpc.StatusCode.UNAVAILABLE] * len(bad) == codes
    assert [] == served.echo.certificates


async def test_files_are_checked_every_two_seconds(tmp_path: Path) -> None:
    """The files are checked repeatedly, and unchanged files change nothing."""
    files = written(trustme.CA().issue_cert(HOST), tmp_path)
    with capture_logs() as log:
        async with echoing(files) as served:
            await served.look()
            await served.look()

    assert 2.0 == CHECK_SECONDS == served.steps.seconds
    assert "" == served.tls.fault
    assert [] == log


async def test_replaced_certificate_is_logged(tmp_path: Path) -> None:
    """The log has the expiry and the fingerprint of the new certificate."""
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


async def test_fault_is_reported_until_it_is_fixed(tmp_path: Path) -> None:
    """Each fault is logged once, and reported as long as it lasts."""
    authority = trustme.CA()
    certificate = authority.issue_cert(HOST)
    files = written(certificate, tmp_path)
    reported = []
    with capture_logs() as log:
        async with echoing(files) as served:
            for key in (b"", b"", key_of(authority.issue_cert(HOST))):
                files.key_file.write_bytes(key)
                await served.look()
                reported.append(served.tls.fault)
            files.key_file.unlink()
            await served.look()
            reported.append(served.tls.fault)
            files.key_file.write_bytes(key_of(certificate))
            await served.look()

    faults = [NO_KEY, NOT_ITS_KEY, f"tls.key_file: {NO_FILE}"]
    assert [faults[0], *faults] == reported
    assert "" == served.tls.fault
    *warned, restored = log
    assert [(fault,) for fault in faults] == [each["faults"] for each in warned]
    assert {"certificate_fault"} == {each["event"] for each in warned}
    assert {"warning"} == {each["log_level"] for each in warned}
    assert "certificate_restored" == restored["event"]


async def test_served_certificate_that_expires_is_a_fault(tmp_path: Path) -> None:
    """The expiry of the served certificate is a fault besides others."""
    clock = OffsetClock()
    certificate = trustme.CA().issue_cert(HOST, not_after=clock() + DAY)
    files = written(certificate, tmp_path)
    until = when_text(files.load(clock()).not_after)
    expiry = f"tls.cert_file: the served certificate expired on {until}"
    with capture_logs() as log:
        async with echoing(files, now=clock) as served:
            clock.offset = 2 * DAY
            await served.look()
            alone = served.tls.fault
            files.key_file.write_bytes(b"")
            await served.look()
            beside = served.tls.fault

    assert expiry == alone
    assert beside.startswith(NO_KEY)
    assert beside.endswith(expiry)
    assert ["certificate_fault"] * 2 == [each["event"] for each in log]


async def test_resumed_session_ends_with_its_authority(tmp_path: Path) -> None:
    """A client can't resume its session after its authority was replaced."""
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


async def test_unchanged_files_keep_their_configuration(tmp_path: Path) -> None:
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
    """New handshakes accept only the new authority; open connections are kept."""
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
            error = await refused(echo(served.address, trusted, old))
            await echo(served.address, trusted, new)
            await echo_over(channel)

    assert grpc.StatusCode.UNAVAILABLE is error.code
    shown = [own_pem(each) for each in (old, new, old)]
    assert shown == served.echo.certificates
    assert ["client_ca_replaced"] == [each["event"] for each in log]


def requiring(authority: trustme.CA, clients: trustme.CA, folder: Path) -> TlsFiles:
    """Return the settings of a server that requires certificates of `clients`."""
    certificate = authority.issue_cert(HOST)
    return written(certificate, folder, clients=clients)


@asynccontextmanager
async def lenient(certificate: trustme.LeafCert) -> AsyncIterator[int]:
    """Serve a byte over any TLS version."""

    async def say(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b".")
        await writer.drain()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1_1
    certificate.configure_cert(context)
    async with ConnectionServer(say, tls=context) as server:
        yield server.port
