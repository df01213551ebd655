"""Callers that use too much, with or without an identity, delay no other caller."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

from e2e.test_rules import verdict
from healthomics.v1.run_service_pb2 import GetRunRequest
from healthomics_gateway.app.gateway import Gateway
from healthomics_gateway.interceptors.tarpit import BURST, PER_SECOND
from load.attackers import Attacker
from load.attacks import ATTACKS, UNKNOWN_CALLERS, Attack
from testkit.builders import Refusal, aws_at, calling, gateway
from testkit.callers import (
    LIMS,
    OTHER,
    OURS,
    SIGNER,
    account,
    bearing,
    called,
    outcome,
    rule,
    stub_on,
    token,
    until,
)
from testkit.connections import HOST, ConnectionServer, forward
from testkit.issuer import AUDIENCE, ISSUER, KeyServer, Signer
from testkit.lying_upstream import HANG, LyingUpstream

PLACES = 20
SMALL = {
    "GATEWAY_MAX_IN_FLIGHT": str(PLACES),
    "GATEWAY_WATCH__MAX_OPEN": str(PLACES),
}
HANGING = "1234"
PATIENCE_SECONDS = 10.0
CROWD = replace(UNKNOWN_CALLERS["no-token"], connections=4, in_hand=120)


@asynccontextmanager
async def under_attack(
    served: Gateway, attack: Attack, units: int
) -> AsyncIterator[None]:
    """Attack a gateway; begin the block when `units` of the attack have been sent."""
    attacker = Attacker(attack, str(served.address))
    attacking = asyncio.create_task(attacker.run(PATIENCE_SECONDS))
    try:
        await until(lambda: attacker.sent >= units)
        yield
    finally:
        attacking.cancel()
        await asyncio.gather(attacking, return_exceptions=True)


@pytest.mark.guarantee("anonymous-streams")
@pytest.mark.parametrize(
    ("attack", "units"),
    [
        pytest.param(UNKNOWN_CALLERS["health-streams"], 2000, id="health-streams"),
        pytest.param(ATTACKS["health-zero"], 2000, id="unread-health-streams"),
        pytest.param(CROWD, 480, id="calls-without-token"),
        pytest.param(ATTACKS["headers"], 500, id="calls-without-message"),
    ],
)
async def test_calls_without_identity_take_no_place_of_an_identity(
    tmp_path: Path, attack: Attack, units: int
) -> None:
    """A call with a token is answered, whatever calls without an identity hold open."""
    fast = replace(attack, rate=max(attack.rate, 5000.0))
    async with (
        called(tmp_path, **SMALL) as gateway,
        under_attack(gateway.served, fast, units),
    ):
        runs = [await outcome(gateway.get(OURS, token())) for _ in range(3)]
        watch = gateway.watch(OURS, token())
        seen = (await watch.read()).run
        watch.cancel()

    assert ["OK"] * 3 == [verdict(each) for each in runs]
    assert OURS == seen.id


@pytest.mark.guarantee("anonymous-streams")
async def test_health_streams_of_a_connection_are_limited(tmp_path: Path) -> None:
    """A stream over the limit is refused; on another connection one is served."""
    async with (
        called(tmp_path) as gateway,
        under_attack(gateway.served, UNKNOWN_CALLERS["health-streams"], 100),
        grpc.aio.insecure_channel(str(gateway.served.address)) as channel,
    ):
        watches = [HealthStub(channel).Watch(HealthCheckRequest()) for _ in range(33)]
        seen = await asyncio.gather(
            *(outcome(each.read()) for each in watches), return_exceptions=True
        )
        for each in watches:
            each.cancel()

    refused = [each for each in seen if isinstance(each, Refusal)]
    assert ["GATEWAY_OVERLOADED"] == [each.reason for each in refused]


@pytest.mark.guarantee("anonymous-streams")
async def test_reflection_streams_of_a_connection_are_limited(tmp_path: Path) -> None:
    """A stream over the limit is refused, even if no stream has sent a request."""
    async with (
        called(tmp_path) as gateway,
        grpc.aio.insecure_channel(str(gateway.served.address)) as channel,
    ):
        stub: Any = ServerReflectionStub(channel)  # type: ignore[no-untyped-call]  # the stubs leave it out
        streams = [
            stub.ServerReflectionInfo(timeout=PATIENCE_SECONDS) for _ in range(33)
        ]
        ending = [asyncio.create_task(outcome(each.read())) for each in streams]
        await until(lambda: any(each.done() for each in ending))
        refused = [each.result().reason for each in ending if each.done()]
        for each in streams:
            each.cancel()
        await asyncio.gather(*ending, return_exceptions=True)

    assert ["GATEWAY_OVERLOADED"] == refused


async def test_reflection_requests_are_rate_limited() -> None:
    """The requests on a reflection stream are answered at a limited rate."""
    extra = 20
    messages = [
        reflection_pb2.ServerReflectionRequest(list_services="")
        for _ in range(int(BURST) + extra)
    ]
    async with (
        LyingUpstream() as upstream,
        gateway(aws_at(upstream.url)) as served,
        grpc.aio.insecure_channel(str(served.address)) as channel,
    ):
        begun = time.monotonic()
        asked = ServerReflectionStub(channel).ServerReflectionInfo(iter(messages))
        answers = [each async for each in asked]

    assert len(messages) == len(answers)
    assert time.monotonic() - begun >= (extra - 1) / PER_SECOND


@pytest.mark.guarantee("watch-share")
async def test_watches_of_one_caller_delay_no_other_caller(tmp_path: Path) -> None:
    """Polls take turns by caller, so another caller's first state isn't delayed."""
    slow = {"GATEWAY_QUOTA__TPS": "10", "GATEWAY_QUOTA__BURST": "1"}
    async with called(tmp_path, rule("*", methods=["WatchRun"]), **slow) as gateway:
        held = [gateway.watch(str(7000 + at), token(OTHER)) for at in range(40)]
        reading = [asyncio.create_task(outcome(each.read())) for each in held]
        await until(lambda: gateway.upstream.requests)
        before = len(gateway.upstream.requests)
        watch = gateway.watch(OURS, token(LIMS))
        await watch.read()
        between = [each.run_id for each in gateway.upstream.requests[before:]]
        for each in (watch, *held):
            each.cancel()
        await asyncio.gather(*reading, return_exceptions=True)

    assert between.index(OURS) <= 5


@pytest.mark.guarantee("place-shares")
async def test_caller_gets_its_share_of_places(tmp_path: Path) -> None:
    """A caller is answered although another one has taken all places."""
    async with called(tmp_path, **SMALL) as gateway:
        gateway.upstream.lie(HANGING, HANG)
        held = [
            asyncio.create_task(outcome(gateway.get(HANGING, token(LIMS))))
            for _ in range(PLACES + 5)
        ]
        await until(lambda: sum(each.done() for each in held) == 5)
        other = await outcome(gateway.get(OURS, token(OTHER)))
        await until(lambda: sum(each.done() for each in held) == 6)
        ended = [each.result() for each in held if each.done()]
        for each in held:
            each.cancel()
        await asyncio.gather(*held, return_exceptions=True)

    assert "OK" == verdict(other)
    assert ["GATEWAY_OVERLOADED"] * 6 == [verdict(each) for each in ended]


@pytest.mark.guarantee("overload")
async def test_calls_without_message_keep_no_places(tmp_path: Path) -> None:
    """A caller is answered although calls without a message have taken all places."""
    async with (
        called(tmp_path, **SMALL) as gateway,
        grpc.aio.insecure_channel(str(gateway.served.address)) as channel,
    ):
        begin = channel.stream_unary("/healthomics.v1.RunService/GetRun")

        async def silence() -> AsyncIterator[bytes]:
            await asyncio.Future[None]()
            yield b""

        silent = [
            begin(silence(), metadata=bearing(token(LIMS))) for _ in range(PLACES + 5)
        ]
        await until(lambda: gateway.served.in_flight == PLACES)
        answered = [
            verdict(await outcome(gateway.get(OURS, token(LIMS)))) for _ in range(3)
        ]
        for each in silent:
            each.cancel()

    assert ["OK"] * 3 == answered


@pytest.mark.guarantee("anonymous-streams")
async def test_tokens_of_unknown_keys_take_no_place() -> None:
    """A caller with a known key is answered while others' keys are looked up."""
    async with KeyServer(SIGNER) as keys, LyingUpstream(truth=account) as upstream:
        environ: dict[str, str] = SMALL | {
            "GATEWAY_JWT__ISSUER": ISSUER,
            "GATEWAY_JWT__AUDIENCE": AUDIENCE,
            "GATEWAY_JWT__JWKS_URL": keys.url,
        }
        async with (
            gateway(aws_at(upstream.url), **environ) as served,
            calling(served) as stub,
        ):

            def call(bearer: str) -> Any:
                request = GetRunRequest(id=OURS)
                return outcome(
                    stub.GetRun(request, timeout=10, metadata=bearing(bearer))
                )

            assert "OK" == verdict(await call(token()))
            keys.stall()
            unknown = Signer("unknown", "P-256")
            waiting = [
                asyncio.create_task(call(unknown.token())) for _ in range(PLACES + 200)
            ]
            await until(lambda: keys.asked == 2)
            ends = [verdict(await call(token())) for _ in range(3)]
            reads = keys.asked
            keys.flow()
            for each in waiting:
                each.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    assert ["OK"] * 3 == ends
    assert 2 == reads


@pytest.mark.guarantee("charged-identity")
async def test_loopback_addresses_share_one_limit(tmp_path: Path) -> None:
    """A client that calls from different loopback addresses is one caller."""
    limited = rule("anonymous", calls_per_second=1)
    async with called(tmp_path, limited) as gateway:
        port = gateway.served.address.port
        ends = [await call_from(f"127.1.0.{at}", port) for at in (1, 2, 3)]

    assert ["OK", "CALLER_RATE_LIMITED", "CALLER_RATE_LIMITED"] == ends


async def call_from(source: str, port: int) -> str:
    """Make a call from a loopback address and return its outcome."""
    async with (
        ConnectionServer(partial(forward, port=port, source=source)) as relay,
        grpc.aio.insecure_channel(f"{HOST}:{relay.port}") as channel,
    ):
        request = GetRunRequest(id=OURS)
        return verdict(await outcome(stub_on(channel).GetRun(request, timeout=10)))


@pytest.mark.guarantee("charged-identity")
async def test_scanner_delays_no_other_identity(tmp_path: Path) -> None:
    """A caller that requests many runs delays no other caller of its host for long."""
    paced = {"GATEWAY_QUOTA__TPS": "10", "GATEWAY_QUOTA__BURST": "1"}
    async with called(tmp_path, **paced) as gateway:
        scan = [
            asyncio.create_task(outcome(gateway.get(str(run), token(LIMS))))
            for run in range(5000, 5030)
        ]
        await until(lambda: gateway.upstream.asked.total() >= 3)
        before = gateway.upstream.asked.total()
        other = await outcome(gateway.get(OURS, token(OTHER)))
        between = gateway.upstream.asked.total() - before
        for each in scan:
            each.cancel()
        await asyncio.gather(*scan, return_exceptions=True)

    assert "OK" == verdict(other)
    assert between <= 10
