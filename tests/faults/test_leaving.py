"""Deadlines and clients that leave: no upstream request outlives its caller."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest
from grpc import StatusCode
from h2.config import H2Configuration
from h2.connection import H2Connection

from healthomics.v1.run_service_pb2 import GetRunRequest
from healthomics_gateway.errors.reasons import Reason
from testkit.builders import ALWAYS, Refusal, calling, get_run, http, refused
from testkit.lying_upstream import (
    HANG,
    TRUE_ID,
    Answer,
    Drip,
    Part,
    Request,
    said,
    true_run,
)
from testkit.rig import GRACE_SECONDS, Rig
from testkit.serving import GET_RUN

ID, OTHER_ID = "2000020", "2000021"
CUT = http(true_run(ID))[:-5]  # a response without its end
DRIP = Drip(http(true_run(ID)), every_seconds=0.01)
THROTTLED = said(429, "ThrottlingException", x_amz_retry_after="3000")
LATE, GONE = ("DEADLINE_EXCEEDED", "CALLER_DEADLINE"), ("CANCELLED", "")
PATIENCE_SECONDS = 5.0  # for events that must happen soon
LONG_SECONDS = 60.0  # a deadline that no test reaches
STALLS = pytest.mark.parametrize(
    "parts",
    [
        pytest.param([HANG], id="silence"),
        pytest.param([CUT, HANG], id="cut-body"),
        pytest.param([DRIP], id="drip"),
    ],
)

Leave = Callable[[Rig, asyncio.Event], Awaitable[None]]


def signalling(came: asyncio.Event, *parts: Part) -> Callable[[Request], Answer]:
    """Return a lie that sends these parts and sets `came`."""

    def lie(_request: Request) -> Answer:
        came.set()
        return parts

    return lie


async def wait_soon(came: asyncio.Event) -> None:
    """Wait for an event that must be set soon."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        await came.wait()


def logged(rig: Rig, run_id: str = ID) -> list[tuple[str, str]]:
    """Return code and reason of each logged call about a run."""
    lines = [each for each in rig.log if each["event"] == "call"]
    of_run = [each for each in lines if each.get("runId") == run_id]
    return [(each["code"], each["reason"]) for each in of_run]


async def await_deadline(rig: Rig, call: Awaitable[Any], *, seconds: float) -> Refusal:
    """Await a call that ends at its deadline, by the gateway or by gRPC itself."""
    begun = time.monotonic()
    rig.tally.calls += 1
    refusal = await refused(call)
    outcome = refusal.reason if refusal.details else f"{refusal.code.name} (core)"
    rig.tally.outcomes[outcome] += 1
    rig.tally.wrong += refusal.code is not StatusCode.DEADLINE_EXCEEDED
    assert StatusCode.DEADLINE_EXCEEDED == refusal.code
    assert time.monotonic() - begun <= seconds + GRACE_SECONDS
    return refusal


@pytest.mark.fault(20)
@pytest.mark.parametrize(
    "seconds",
    [pytest.param(0.0, id="0"), pytest.param(0.001, id="1ms")],
)
async def test_deadline_without_time_sends_no_request(
    rigged: Any, seconds: float
) -> None:
    """A call with no time left ends with DEADLINE_EXCEEDED; no request is sent."""
    async with rigged() as rig:
        for _ in range(10):
            await await_deadline(
                rig, get_run(rig.stub, ID, seconds=seconds), seconds=seconds
            )

    assert {TRUE_ID} == set(rig.upstream.asked)


@pytest.mark.fault(20)
@pytest.mark.parametrize("written", ["1n", "1m", "5m", "9m"])
async def test_deadline_below_10_ms_is_refused(rigged: Any, written: str) -> None:
    """Below 10 ms no request is sent. A client that still listens gets the reason."""
    # Sent as metadata only, so that the client listens after the deadline.
    metadata = (("grpc-timeout", written),)
    refusals: list[Refusal] = []
    async with rigged() as rig:
        for _ in range(30):
            call = rig.stub.GetRun(GetRunRequest(id=ID), metadata=metadata)
            refusal = await await_deadline(rig, call, seconds=0.01)
            refusals += [refusal] if refusal.details else []

    assert refusals  # gRPC itself may end some of the thirty calls
    assert {"DEADLINE_TOO_SHORT"} == {each.reason for each in refusals}
    assert all(set(each.details) == ALWAYS for each in refusals)
    assert all(each.metadata == {"runId": ID} for each in refusals)
    assert {TRUE_ID} == set(rig.upstream.asked)


@pytest.mark.guarantee("deadlines")
@pytest.mark.fault(20)
@STALLS
async def test_call_without_deadline_has_the_default(
    rigged: Any, parts: list[Part]
) -> None:
    """Without a deadline the default ends the call and its upstream request."""
    async with rigged(GATEWAY_DEFAULT_DEADLINE="300ms") as rig:
        rig.upstream.lie(ID, parts)
        call = get_run(rig.stub, ID, seconds=None)
        refusal = await rig.refused(call, Reason.SERVER_DEADLINE, seconds=0.3)

    assert {"runId": ID, "region": "us-east-1", "attempts": "1"} == refusal.metadata
    assert ALWAYS == set(refusal.details)
    assert [("DEADLINE_EXCEEDED", "SERVER_DEADLINE")] == logged(rig)
    assert (1, 1) == (rig.upstream.asked[ID], rig.upstream.hung_up[ID])


@pytest.mark.guarantee("deadlines")
@pytest.mark.fault(20)
@STALLS
async def test_deadline_ends_the_call_and_its_request(
    rigged: Any, parts: list[Part]
) -> None:
    """At its deadline a call ends with its upstream request, and is logged."""
    async with rigged() as rig:
        rig.upstream.lie(ID, parts)
        refusal = await await_deadline(
            rig, get_run(rig.stub, ID, seconds=0.05), seconds=0.05
        )

    assert not refusal.details or refusal.reason == "CALLER_DEADLINE"
    assert [LATE] == logged(rig)
    assert (1, 1) == (rig.upstream.asked[ID], rig.upstream.hung_up[ID])


async def cancel(rig: Rig, came: asyncio.Event) -> None:
    """Cancel one call, and keep the connection."""
    call = rig.stub.GetRun(GetRunRequest(id=ID), timeout=LONG_SECONDS)
    await wait_soon(came)
    call.cancel()
    assert StatusCode.CANCELLED == await call.code()


async def close_channel(rig: Rig, came: asyncio.Event) -> None:
    """Close a client's connection, as gRPC does."""
    options = {"grpc.use_local_subchannel_pool": 1}
    async with calling(rig.served, **options) as stub:
        call = stub.GetRun(GetRunRequest(id=ID), timeout=LONG_SECONDS)
        await wait_soon(came)
    with pytest.raises((grpc.aio.AioRpcError, asyncio.CancelledError)):
        await call


async def begin_raw(rig: Rig) -> tuple[H2Connection, asyncio.StreamWriter]:
    """Begin a call on a socket of its own."""
    connection = H2Connection(H2Configuration(header_encoding=False))
    connection.initiate_connection()
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": GET_RUN,
        ":authority": str(rig.served.address),
        "te": "trailers",
        "content-type": "application/grpc",
    }
    connection.send_headers(1, list(headers.items()))
    body = GetRunRequest(id=ID).SerializeToString()
    message = b"\0" + len(body).to_bytes(4, "big") + body
    connection.send_data(1, message, end_stream=True)
    address = rig.served.address
    _, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(connection.data_to_send())
    return connection, writer


async def hang_up(rig: Rig, came: asyncio.Event) -> None:
    """Close the socket without any HTTP/2 frame."""
    _, writer = await begin_raw(rig)
    await wait_soon(came)
    writer.close()


async def abort(rig: Rig, came: asyncio.Event) -> None:
    """Reset the connection, as after a crash of the client's machine."""
    _, writer = await begin_raw(rig)
    await wait_soon(came)
    linger = struct.pack("ii", 1, 0)  # close() then sends RST
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


async def reset_stream(rig: Rig, came: asyncio.Event) -> None:
    """Reset the stream, send GOAWAY and close the socket."""
    connection, writer = await begin_raw(rig)
    await wait_soon(came)
    connection.reset_stream(1)
    connection.close_connection()
    writer.write(connection.data_to_send())
    writer.close()


@pytest.mark.guarantee("cancelled-calls")
@pytest.mark.fault(20)
@STALLS
@pytest.mark.parametrize("leave", [cancel, close_channel, hang_up, abort, reset_stream])
async def test_call_that_is_left_cancels_its_request(
    rigged: Any, leave: Leave, parts: list[Part]
) -> None:
    """However a client leaves, the call's upstream request is cancelled."""
    came = asyncio.Event()
    async with rigged() as rig:
        rig.upstream.lie(ID, signalling(came, *parts))
        rig.tally.calls += 1
        await leave(rig, came)
        rig.tally.outcomes["CANCELLED"] += 1

    assert [GONE] == logged(rig)
    assert (1, 1) == (rig.upstream.asked[ID], rig.upstream.hung_up[ID])


@pytest.mark.fault(20)
async def test_call_that_is_left_is_not_retried(rigged: Any) -> None:
    """A call that waits for a retry makes none after its client has left."""
    came = asyncio.Event()
    async with rigged() as rig:
        rig.upstream.lie(ID, signalling(came, THROTTLED))
        rig.tally.calls += 1
        call = rig.stub.GetRun(GetRunRequest(id=ID), timeout=LONG_SECONDS)
        await wait_soon(came)
        await rig.run(OTHER_ID)  # the throttle has been read by now
        call.cancel()
        assert StatusCode.CANCELLED == await call.code()
        rig.tally.outcomes["CANCELLED"] += 1

    assert [GONE] == logged(rig)
    assert (1, 0) == (rig.upstream.asked[ID], rig.upstream.hung_up[ID])


@pytest.mark.guarantee("cancelled-calls")
@pytest.mark.fault(20)
async def test_calls_that_are_left_free_their_places(rigged: Any) -> None:
    """Requests are cancelled, and calls that wait for a place send none."""
    came = asyncio.Event()

    def lie(_request: Request) -> Answer:
        if sum(rig.upstream.asked[run_id] for run_id in ids) == 20:
            came.set()
        return HANG

    ids = [str(3_000_000 + at) for at in range(100)]
    async with rigged(GATEWAY_UPSTREAM__MAX_CONCURRENT="20") as rig:
        for run_id in ids:
            rig.upstream.lie(run_id, lie)
        calls = [
            rig.stub.GetRun(GetRunRequest(id=run_id), timeout=LONG_SECONDS)
            for run_id in ids
        ]
        rig.tally.calls += len(calls)
        await wait_soon(came)
        for call in calls:
            call.cancel()
        codes = {await call.code() for call in calls}
        rig.tally.outcomes["CANCELLED"] += len(calls)

    assert {StatusCode.CANCELLED} == codes
    assert {GONE} == {each for run_id in ids for each in logged(rig, run_id)}
    asked, hung_up = rig.upstream.asked, rig.upstream.hung_up
    assert [20, 20] == [
        sum(each[run_id] for run_id in ids) for each in (asked, hung_up)
    ]
