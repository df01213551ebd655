"""The certificate that a gateway serves with, in real handshakes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import trustme

from healthomics.v1.run_service_pb2_grpc import RunServiceStub
from healthomics_gateway.app import Gateway
from support import aws_at, calling, gateway, get_run, refused

HOST = "127.0.0.1"
NOWHERE = "http://127.0.0.1:9"  # no test here asks HealthOmics


def written(certificate: trustme.LeafCert, folder: Path) -> dict[str, str]:
    """Write a certificate chain and its key; give the settings that name them."""
    chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
    files = {"cert_file": chain, "key_file": certificate.private_key_pem.bytes()}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return {f"GATEWAY_TLS__{name.upper()}": str(folder / name) for name in files}


def root_of(authority: trustme.CA) -> bytes:
    """The certificate that a client trusts, as PEM."""
    return authority.cert_pem.bytes()


@asynccontextmanager
async def calling_with_tls(
    served: Gateway, trusted: bytes
) -> AsyncIterator[RunServiceStub]:
    """Open a channel that trusts one authority."""
    credentials = grpc.ssl_channel_credentials(trusted)
    async with grpc.aio.secure_channel(str(served.address), credentials) as channel:
        yield RunServiceStub(channel)


async def test_client_that_trusts_the_authority_is_answered(tmp_path: Path) -> None:
    """A certificate and a key from files serve TLS."""
    authority = trustme.CA()
    files = written(authority.issue_cert(HOST), tmp_path)
    async with (
        gateway(aws_at(NOWHERE), **files) as served,
        calling_with_tls(served, root_of(authority)) as stub,
    ):
        told = await refused(get_run(stub, "not an id"))

    assert "INVALID_REQUEST" == told.reason


async def test_chain_is_served_whole(tmp_path: Path) -> None:
    """A client that knows the root alone trusts what an authority below it issued."""
    root = trustme.CA()
    files = written(root.create_child_ca().issue_cert(HOST), tmp_path)
    async with (
        gateway(aws_at(NOWHERE), **files) as served,
        calling_with_tls(served, root_of(root)) as stub,
    ):
        told = await refused(get_run(stub, "not an id"))

    assert "INVALID_REQUEST" == told.reason


async def test_client_of_another_authority_does_not_call(tmp_path: Path) -> None:
    """A client that doesn't trust the certificate sends no call."""
    files = written(trustme.CA().issue_cert(HOST), tmp_path)
    async with (
        gateway(aws_at(NOWHERE), **files) as served,
        calling_with_tls(served, root_of(trustme.CA())) as stub,
    ):
        told = await refused(get_run(stub, "not an id"))

    assert grpc.StatusCode.UNAVAILABLE is told.code
    assert {} == told.details


async def test_plaintext_client_is_refused(tmp_path: Path) -> None:
    """Where TLS is served nothing is answered in plaintext."""
    files = written(trustme.CA().issue_cert(HOST), tmp_path)
    async with (
        gateway(aws_at(NOWHERE), **files) as served,
        calling(served) as stub,
    ):
        told = await refused(get_run(stub, "not an id"))

    assert grpc.StatusCode.UNAVAILABLE is told.code
    assert {} == told.details
