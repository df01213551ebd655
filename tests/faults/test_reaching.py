"""An endpoint that can't be reached, or whose certificate isn't trusted."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from grpc_health.v1 import health_pb2

from healthomics_gateway.errors.reasons import Reason
from testkit.builders import ALWAYS, Refusal, aws_at, get_run
from testkit.lying_upstream import LyingUpstream
from testkit.upstream_certificates import Certified
from unit.app.test_gateway import next_health, readyz, watching
from unit.upstream.test_transport import client_closed, cutting_handshakes, serving

ID = "2000030"
ATTEMPTS = 3
TRIED = {"runId": ID, "region": "us-east-1"}  # the metadata without a response
WITH_RETRY = ALWAYS | {"RetryInfo"}
READY = (200, "ok\n")
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
ALERT = b"\x15\x03\x03\x00\x02\x02\x28"  # handshake failure, fatal


def contents(refusal: Refusal) -> tuple[set[str], dict[str, str]]:
    """Return the details and the metadata of a refusal."""
    return set(refusal.details), refusal.metadata


def free_port() -> int:
    """Return an unused port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


@pytest.mark.fault(30)
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_refused_port_is_a_failed_connection(rigged: Any, scheme: str) -> None:
    """If nothing listens, three attempts fail and the gateway stays ready."""
    aws = aws_at(f"{scheme}://127.0.0.1:{free_port()}")
    async with rigged(aws=lambda _: aws, is_truth_served=False) as rig:
        refusal = await rig.refusal(ID, Reason.UPSTREAM_CONNECTION)
        ready = await readyz(rig.served)

    assert (WITH_RETRY, TRIED | {"attempts": "3"}) == contents(refusal)
    assert READY == ready


@pytest.mark.fault(30)
async def test_unknown_host_has_its_own_reason(rigged: Any) -> None:
    """An unknown host is tried three times, and the error doesn't contain its name."""
    aws = aws_at("https://workflows-omics.invalid")
    async with rigged(aws=lambda _: aws, is_truth_served=False) as rig:
        refusal = await rig.refusal(ID, Reason.UPSTREAM_DNS)
        ready = await readyz(rig.served)

    assert (WITH_RETRY, TRIED | {"attempts": "3"}) == contents(refusal)
    assert "invalid" not in f"{refusal.message} {refusal.details} {refusal.trailers}"
    assert READY == ready


# Certificates.


def show_unknown(certified: Certified, _folder: Path) -> None:
    """Use a certificate of an authority that isn't trusted."""
    certified.show(is_known=False)


def show_another_host(certified: Certified, _folder: Path) -> None:
    """Use a certificate of another host."""
    certified.show("elsewhere.example")


def show_address(certified: Certified, _folder: Path) -> None:
    """Use a certificate of the address, not of the name."""
    certified.show("127.0.0.1")


def show_expired(certified: Certified, _folder: Path) -> None:
    """Use a certificate that has expired."""
    certified.show_expired()


def show_premature(certified: Certified, _folder: Path) -> None:
    """Use a certificate that isn't valid yet."""
    certified.show_premature()


UNTRUSTED = [
    pytest.param(show_unknown, id="unknown-authority"),
    pytest.param(Certified.show_self_signed, id="self-signed"),
    pytest.param(show_another_host, id="another-host"),
    pytest.param(show_address, id="address-for-name"),
    pytest.param(show_expired, id="expired"),
    pytest.param(show_premature, id="not-yet"),
]


@pytest.mark.fault(30)
async def test_trusted_certificate_is_answered(rigged: Any, tmp_path: Path) -> None:
    """Over TLS with a trusted authority a call is answered."""
    certified = Certified()
    async with (
        LyingUpstream(tls=certified.context) as upstream,
        rigged(upstream=upstream, aws=certified.trusted_by(tmp_path)) as rig,
    ):
        run = await rig.run(ID)

    assert (ID, 1) == (run.id, upstream.asked[ID])
    assert {""} == {each.fault for each in upstream.requests}
    assert upstream.accepted == certified.handshakes


@pytest.mark.fault(30)
@pytest.mark.parametrize("show", UNTRUSTED)
async def test_untrusted_certificate_is_sent_nothing(
    rigged: Any, tmp_path: Path, show: Callable[[Certified, Path], None]
) -> None:
    """After one handshake and no request, the gateway is unready until it is fixed."""
    certified = Certified()
    show(certified, tmp_path)
    async with (
        LyingUpstream(tls=certified.context) as upstream,
        rigged(
            upstream=upstream,
            aws=certified.trusted_by(tmp_path),
            is_truth_served=False,
        ) as rig,
        watching(rig.served) as watch,
    ):
        await next_health(watch, SERVING)
        refusal = await rig.refusal(ID, Reason.UPSTREAM_TLS_UNTRUSTED)
        await next_health(watch, NOT_SERVING)
        unready = await readyz(rig.served)
        seen = certified.handshakes, upstream.accepted, len(upstream.requests)
        certified.show()
        await rig.run(ID)
        await next_health(watch, SERVING)
        ready = await readyz(rig.served)

    assert (1, 0, 0) == seen  # no connection completed its handshake
    assert (ALWAYS, TRIED | {"attempts": "1"}) == contents(refusal)
    assert (503, "UPSTREAM_TLS_UNTRUSTED\n") == unready
    assert READY == ready
    assert 1 == upstream.asked[ID]


@pytest.mark.fault(30)
async def test_untrusted_certificate_costs_each_caller_one_handshake(
    rigged: Any, tmp_path: Path
) -> None:
    """Twenty concurrent callers make twenty handshakes, and no request."""
    certified = Certified()
    certified.show(is_known=False)
    async with (
        LyingUpstream(tls=certified.context) as upstream,
        rigged(
            upstream=upstream,
            aws=certified.trusted_by(tmp_path),
            is_truth_served=False,
        ) as rig,
    ):
        await asyncio.gather(
            *(
                rig.refusal(str(2_000_100 + at), Reason.UPSTREAM_TLS_UNTRUSTED)
                for at in range(20)
            )
        )
        seen = certified.handshakes, upstream.accepted, upstream.requests

    assert (20, 0, []) == seen


@pytest.mark.fault(30)
async def test_certificate_that_becomes_invalid_keeps_connections(
    rigged: Any, tmp_path: Path
) -> None:
    """Open connections are used; new ones are refused until it is valid again."""
    certified = Certified()
    async with (
        LyingUpstream(tls=certified.context) as upstream,
        rigged(
            upstream=upstream,
            aws=certified.trusted_by(tmp_path),
            is_truth_served=False,
        ) as rig,
    ):
        await rig.run(ID)
        certified.show_expired()
        await rig.run(ID)
        await upstream.hang_up_idle()
        await rig.refusal(ID, Reason.UPSTREAM_TLS_UNTRUSTED)
        before = upstream.asked[ID]
        certified.show()
        await rig.run(ID)

    assert (2, 3) == (before, upstream.asked[ID])
    assert 3 == certified.handshakes


# Handshakes.


@pytest.mark.fault(30)
async def test_stalled_handshake_is_a_tls_failure(rigged: Any) -> None:
    """An attempt whose handshake stalls is ended and retried."""
    hellos = []

    async def talk(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        hellos.append(await reader.read(10_000))
        await client_closed(reader)

    async with serving(talk) as url:
        aws = aws_at(url.replace("http:", "https:"))
        async with rigged(
            aws=lambda _: aws,
            is_truth_served=False,
            GATEWAY_UPSTREAM__CONNECT_TIMEOUT="150ms",
        ) as rig:
            begun = time.monotonic()
            refusal = await rig.refusal(ID, Reason.UPSTREAM_TLS)
            lasted = time.monotonic() - begun
            ready = await readyz(rig.served)

    assert (WITH_RETRY, TRIED | {"attempts": "3"}) == contents(refusal)
    assert (ATTEMPTS, READY) == (len(hellos), ready)
    assert 3 * 0.15 <= lasted < 2.0


@pytest.mark.fault(30)
async def test_stalled_handshake_ends_at_the_deadline(rigged: Any) -> None:
    """The call ends at its deadline, and so does the connection."""
    hellos = []
    has_left = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        hellos.append(await reader.read(10_000))
        await client_closed(reader)
        has_left.set()

    async with serving(talk) as url:
        aws = aws_at(url.replace("http:", "https:"))
        async with rigged(
            aws=lambda _: aws,
            is_truth_served=False,
            GATEWAY_DEFAULT_DEADLINE="300ms",  # a caller's own has no reason
        ) as rig:
            call = get_run(rig.stub, ID, seconds=None)
            refusal = await rig.refused(call, Reason.SERVER_DEADLINE, seconds=0.3)
            async with asyncio.timeout(5):
                await has_left.wait()

    assert (ALWAYS, TRIED | {"attempts": "1"}) == contents(refusal)
    assert 1 == len(hellos)


@pytest.mark.fault(30)
@pytest.mark.parametrize(
    "farewell",
    [
        pytest.param(None, id="reset"),
        pytest.param(b"", id="closed"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", id="plaintext"),
        pytest.param(ALERT, id="alert"),
        pytest.param(b"\x16\x03\x03\x40\x00\x02", id="half-a-record"),
        pytest.param(b"\0" * 10_000, id="zeros"),
    ],
)
async def test_cut_handshake_is_a_tls_failure(
    rigged: Any, farewell: bytes | None
) -> None:
    """However a handshake ends early, it is tried three times and reported as TLS."""
    async with (
        cutting_handshakes(farewell) as (url, hellos),
        rigged(aws=lambda _: aws_at(url), is_truth_served=False) as rig,
    ):
        refusal = await rig.refusal(ID, Reason.UPSTREAM_TLS)
        ready = await readyz(rig.served)

    assert (WITH_RETRY, TRIED | {"attempts": "3"}) == contents(refusal)
    assert (ATTEMPTS, READY) == (len(hellos), ready)
    assert [] == [each for each in hellos if b"GET " in each]
