"""Where callers come in, where TLS ends before gRPC."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
import trustme

from authorities import HOST, chain_of, key_of, root_of
from healthomics.v1.run_service_pb2_grpc import RunServiceStub
from healthomics_gateway.door import ClosedError, Door
from healthomics_gateway.kinds import Address
from support import Refusal, assert_well_made, aws_at, gateway, get_run, refused

NOWHERE = "http://127.0.0.1:9"  # no test here asks HealthOmics
RULE = '[[callers]]\nidentity = "anonymous"\n'


def settings_in(folder: Path) -> dict[str, str]:
    """Write what a gateway needs whose clients may have a certificate."""
    certificate = trustme.CA().issue_cert(HOST)
    (folder / "cert.pem").write_bytes(chain_of(certificate))
    (folder / "key.pem").write_bytes(key_of(certificate))
    (folder / "clients.pem").write_bytes(root_of(trustme.CA()))
    return {
        "GATEWAY_TLS__CERT_FILE": str(folder / "cert.pem"),
        "GATEWAY_TLS__KEY_FILE": str(folder / "key.pem"),
        "GATEWAY_TLS__CLIENT_CA_FILE": str(folder / "clients.pem"),
        "GATEWAY_TLS__CLIENT_AUTH": "optional",
    }


async def test_who_comes_past_the_front_is_nobody(tmp_path: Path) -> None:
    """Another process that finds gRPC's own socket is refused, whoever may call."""
    environ = settings_in(tmp_path)
    async with gateway(aws_at(NOWHERE), toml=RULE, **environ) as served:
        inner = served._door._front.inner  # type: ignore[union-attr]  # noqa: SLF001  # nothing else tells where it is
        async with grpc.aio.insecure_channel(inner) as channel:
            told: Refusal = await refused(get_run(RunServiceStub(channel), "1"))

    assert_well_made(told)
    assert "TOKEN_INVALID" == told.reason


async def test_address_that_is_taken_closes_the_door() -> None:
    """Whoever has no place to listen says so."""
    door = Door(Address("no-such-host.invalid", 1), files=None)
    server = grpc.aio.server()
    with pytest.raises(ClosedError):
        await door.open(server)
    await server.stop(None)
