"""What happens to the gateways whose status page is drawn."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import trustme

from healthomics.v1.run_service_pb2 import GetRunRequest, WatchRunRequest
from healthomics.v1.run_service_pb2_grpc import RunServiceStub
from healthomics_gateway.app.gateway import Gateway
from testkit.builders import Sandbox, aws_at, gateway
from testkit.callers import bearing, rule, settings_of_tokens, token

LIMS = "spiffe://corp/ns/lims/sa/reader"
BOARD = "spiffe://corp/ns/dashboards/sa/overview"
UNRULED_CALLER = "spiffe://corp/ns/unknown/sa/x"
RULES = (
    rule("spiffe://corp/ns/lims/*"),
    rule("spiffe://corp/ns/dashboards/*", methods=["GetRun"], calls_per_second=40.0),
    rule("spiffe://corp/ns/admin/sa/grpcurl", methods=["GetRun", "Channelz"]),
)
QUOTA = {"GATEWAY_QUOTA__TPS": "8", "GATEWAY_QUOTA__BURST": "2"}
NOWHERE = "http://127.0.0.1:9"  # nothing listens there
WAVE_SECONDS = 200.0  # of the load
OUTAGE_SECONDS = 33.0  # until the gateway reports that HealthOmics isn't reached
BAD_IDS = ("9000404", "9000404", "9000403", "no id", "9000500")


@asynccontextmanager
async def served(
    folder: Path, endpoint: str, *, days: float, identities: bool = True
) -> AsyncIterator[tuple[Gateway, RunServiceStub]]:
    """Serve a gateway with TLS, tokens and rules; its certificate expires in `days`."""
    authority = trustme.CA()
    until = datetime.now(UTC) + timedelta(days=days)
    pair = authority.issue_cert("127.0.0.1", not_after=until)
    pair.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    pair.private_key_pem.write_to_path(folder / "key.pem")
    environ = settings_of_tokens(folder) | QUOTA
    async with gateway(
        aws_at(endpoint),
        toml="".join(RULES),
        GATEWAY_TLS__CERT_FILE=str(folder / "cert.pem"),
        GATEWAY_TLS__KEY_FILE=str(folder / "key.pem"),
        GATEWAY_STATUSZ__IDENTITIES=str(identities).lower(),
        **environ,
    ) as found:
        trusted = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
        async with grpc.aio.secure_channel(str(found.address), trusted) as channel:
            yield found, RunServiceStub(channel)


@asynccontextmanager
async def at_rest(folder: Path, _seconds: float) -> AsyncIterator[Gateway]:
    """Serve a gateway that has just started."""
    async with (
        Sandbox() as sandbox,
        served(folder, sandbox.url, days=60, identities=False) as (found, _stub),
    ):
        yield found


@asynccontextmanager
async def under_load(folder: Path, seconds: float) -> AsyncIterator[Gateway]:
    """Serve a gateway that has been called for some time, and still is."""
    async with (
        Sandbox(quota_per_second=0) as sandbox,
        served(folder, sandbox.url, days=60) as (found, stub),
        asyncio.TaskGroup() as tasks,
    ):
        jobs = [tasks.create_task(each) for each in _load(stub)]
        await asyncio.sleep(seconds)
        yield found
        for job in jobs:
            job.cancel()


@asynccontextmanager
async def with_faults(folder: Path, _seconds: float) -> AsyncIterator[Gateway]:
    """Serve a gateway that doesn't reach HealthOmics, and whose files are broken."""
    async with served(folder, NOWHERE, days=2.5) as (found, stub):
        await _get(stub, "1000003", LIMS)  # the keys have been read since
        (folder / "cert.pem").write_text("it isn't PEM")
        (folder / "jwks.json").write_text("{")
        loop = asyncio.get_running_loop()
        end = loop.time() + OUTAGE_SECONDS
        while loop.time() < end:
            await _get(stub, "1000003", LIMS)
            await asyncio.sleep(1)
        yield found


def _load(stub: Any) -> list[Coroutine[Any, Any, None]]:
    """Return what calls a gateway until it is cancelled."""
    watches = [_watch(stub, f"50001{at % 8:02}") for at in range(24)]
    return [*watches, _calls(stub), _cached_calls(stub), _failing_calls(stub)]


async def _watch(stub: Any, run_id: str) -> None:
    """Watch a run, again and again, as a stream ends after ten minutes."""
    while True:
        metadata = bearing(token(LIMS, exp=4_000_000_000))
        with suppress(grpc.aio.AioRpcError):
            async for _ in stub.WatchRun(WatchRunRequest(id=run_id), metadata=metadata):
                pass
        await asyncio.sleep(1)


async def _calls(stub: Any) -> None:
    """Make 0 to 6 calls a second, in waves, each for another run."""
    loop, pending = asyncio.get_running_loop(), set[asyncio.Task[None]]()
    while True:
        wave = math.sin(2 * math.pi * loop.time() / WAVE_SECONDS)
        await asyncio.sleep(random.expovariate(3.2 + 2.8 * wave))
        run_id = str(random.randrange(5_000_100, 5_999_999))
        task = asyncio.create_task(_get(stub, run_id, LIMS))
        pending.add(task)
        task.add_done_callback(pending.discard)


async def _cached_calls(stub: Any) -> None:
    """Ask for the same runs again and again; a cached answer is enough."""
    for at in range(10**9):
        await _get(stub, f"500005{at % 5}", BOARD, max_staleness="60s")
        await asyncio.sleep(0.1)


async def _failing_calls(stub: Any) -> None:
    for at in range(10**9):
        await asyncio.sleep(random.uniform(2, 8))
        await _get(stub, BAD_IDS[at % len(BAD_IDS)], LIMS)
        if at % 3 == 0:
            await _get(stub, "1000003", UNRULED_CALLER)
        if at % 25 == 20:
            await _get(stub, "9000429", LIMS, seconds=1.0)


async def _get(
    stub: Any, run_id: str, identity: str, *, seconds: float = 2.0, **fields: Any
) -> None:
    request = GetRunRequest(id=run_id)
    if "max_staleness" in fields:
        request.max_staleness.FromJsonString(fields["max_staleness"])
    with suppress(grpc.aio.AioRpcError):
        metadata = bearing(token(identity))
        await stub.GetRun(request, timeout=seconds, metadata=metadata)
