"""Invalid requests: their bytes, size, metadata and method."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable
from typing import Any

import grpc
import pytest
from google.protobuf.message import DecodeError
from grpc import StatusCode
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamEnded, TrailersReceived
from structlog.testing import capture_logs

from healthomics.v1.run_service_pb2 import GetRunRequest
from healthomics.v1.run_service_pb2_grpc import RunServiceStub
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.services.names import RUN_SERVICE
from testkit.builders import ALWAYS, Refusal, assert_well_made, get_run, http, refused
from testkit.callers import until
from testkit.fault_table import Tally
from testkit.gateway_process import serving as own_process
from testkit.lying_upstream import ARN, CANARY, TRUE_ID, LyingUpstream, Wait, true_run
from testkit.rig import Rig
from testkit.serving import GET_RUN, Scripted, answer, serving

ID = "2000019"
PATIENCE_SECONDS = 10.0
ESCAPES = "\r\n\x1b[31m{}"  # would break or color a log line


async def refused_by_core(rig: Rig, call: Awaitable[Any]) -> Refusal:
    """Await a call that gRPC itself refuses, without details or a request ID."""
    rig.tally.calls += 1
    refusal = await refused(call)
    rig.tally.outcomes[f"{refusal.code.name} (core)"] += 1
    rig.tally.wrong += refusal.code is not StatusCode.RESOURCE_EXHAUSTED
    assert ({}, {}) == (refusal.details, refusal.trailers)
    return refusal


@pytest.mark.guarantee("hostile-requests")
@pytest.mark.fault(19)
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"\x08", id="no-value"),
        pytest.param(b"\x0a\x05ab", id="cut"),
        pytest.param(b"\x0a\x80", id="half-a-length"),
        pytest.param(b"\x18" + b"\xff" * 10 + b"\x01", id="long-varint"),
        pytest.param(b"\x0a\xff\xff\xff\xff\x0f", id="4-gb-announced"),
        pytest.param(b"\x00\x00", id="field-0"),
        pytest.param(b"\x0e", id="wire-type-6"),
        pytest.param(b"\x0b", id="group-without-end"),
        pytest.param(b"\x0c", id="end-without-group"),
        pytest.param(b"\x0b" * 5000 + b"\x0c" * 5000, id="5000-groups"),
        pytest.param(b"\x0a\x01\xff", id="no-utf-8"),
        pytest.param(b"\xff" * 60_000, id="60-kb"),
    ],
)
async def test_request_that_does_not_decode_is_malformed(
    rigged: Any, body: bytes
) -> None:
    """Bytes that can't be decoded are MALFORMED_REQUEST, and no request is sent."""
    async with (
        rigged() as rig,
        grpc.aio.insecure_channel(str(rig.served.address)) as channel,
    ):
        call = channel.unary_unary(GET_RUN)(body, timeout=10)
        refusal = await rig.refused(call, Reason.MALFORMED_REQUEST)
        asked = set(rig.upstream.asked)

    assert Reason.MALFORMED_REQUEST.value.message == refusal.message
    assert (ALWAYS, {}) == (set(refusal.details), refusal.metadata)
    assert {TRUE_ID} == asked


@pytest.mark.fault(19)
async def test_request_of_random_bytes_is_refused(rigged: Any) -> None:
    """Random bytes are malformed or, if they decode, have no valid ID."""
    draw = random.Random(19)
    bodies = [draw.randbytes(draw.choice([1, 2, 3, 8, 60_000])) for _ in range(100)]
    async with (
        rigged() as rig,
        grpc.aio.insecure_channel(str(rig.served.address)) as channel,
    ):
        for body in bodies:
            try:
                GetRunRequest.FromString(body)
            except DecodeError:
                reason = Reason.MALFORMED_REQUEST
            else:
                reason = Reason.INVALID_REQUEST
            await rig.refused(channel.unary_unary(GET_RUN)(body, timeout=10), reason)
        asked = set(rig.upstream.asked)

    assert {TRUE_ID} == asked


@pytest.mark.fault(19)
async def test_request_without_a_message_is_malformed(rigged: Any) -> None:
    """A call that ends before its message is malformed, and no request is sent."""
    async with (
        rigged() as rig,
        grpc.aio.insecure_channel(str(rig.served.address)) as channel,
    ):
        call = channel.stream_unary(GET_RUN)(iter(()), timeout=10)
        refusal = await rig.refused(call, Reason.MALFORMED_REQUEST)
        asked = set(rig.upstream.asked)

    assert (ALWAYS, {}) == (set(refusal.details), refusal.metadata)
    assert {TRUE_ID} == asked


@pytest.mark.fault(19)
@pytest.mark.parametrize(
    ("digits", "metadata"),
    [
        pytest.param(65_533, (), id="message"),
        pytest.param(1, (("big", "v" * 9000),), id="metadata"),
        pytest.param(1, (("x-request-id", "9" * 9000),), id="request-id"),
        pytest.param(1, tuple((f"k{at}", "v") for at in range(400)), id="many-keys"),
    ],
)
async def test_request_over_a_limit_keeps_its_connection(
    rigged: Any, digits: int, metadata: tuple[tuple[str, str], ...]
) -> None:
    """Only the call that is too large fails; others on its connection are answered."""
    came = asyncio.Event()

    def slow(_request: Any) -> list[Any]:
        came.set()
        return [Wait(0.2), http(true_run(ID))]

    async with rigged() as rig:
        rig.upstream.lie(ID, slow)
        beside = asyncio.create_task(rig.run(ID))
        async with asyncio.timeout(PATIENCE_SECONDS):
            await came.wait()
        large = GetRunRequest(id="1" * digits)
        call = rig.stub.GetRun(large, timeout=10, metadata=metadata)
        refusal = await refused_by_core(rig, call)
        run = await beside
        await rig.run(ID)
        asked = dict(rig.upstream.asked)
        await until(lambda: not rig.served.in_flight)  # then all are logged
        peers = {each["peer"] for each in rig.log if each.get("runId") == ID}

    assert StatusCode.RESOURCE_EXHAUSTED == refusal.code
    assert ID == run.id
    assert (2, {TRUE_ID, ID}) == (asked[ID], set(asked))
    assert 1 == len(peers)  # one connection, before and after


@pytest.mark.fault(19)
async def test_request_within_the_limits_is_read(rigged: Any) -> None:
    """A message of 64 KiB and metadata below 8 KiB reach the gateway's own checks."""
    async with rigged() as rig:
        refusal = await rig.refusal("1" * 65_532, Reason.INVALID_REQUEST)
        message = GetRunRequest(id=ID)
        run = await rig.stub.GetRun(
            message, timeout=10, metadata=(("big", "v" * 7000), ("user-agent", "a"))
        )

    assert ALWAYS | {"BadRequest"} == set(refusal.details)
    assert ID == run.id
    assert {TRUE_ID, ID} == set(rig.upstream.asked)
    assert 1 == rig.upstream.asked[ID]


async def raw_call(
    address: str, *headers: tuple[bytes, bytes], body: bytes = b"\x0a\x01x"
) -> tuple[str, dict[bytes, bytes]]:
    """Make a call with headers that gRPC's clients don't send; return its trailers."""
    config = H2Configuration(
        header_encoding=False,
        validate_outbound_headers=False,
        normalize_outbound_headers=False,
    )
    connection = H2Connection(config)
    connection.initiate_connection()
    of_grpc = {
        b":method": b"POST",
        b":scheme": b"http",
        b":path": GET_RUN.encode(),
        b":authority": address.encode(),
        b"te": b"trailers",
        b"content-type": b"application/grpc",
    }
    connection.send_headers(1, [*of_grpc.items(), *headers])
    message = b"\0" + len(body).to_bytes(4, "big") + body
    connection.send_data(1, message, end_stream=True)
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    trailers: dict[bytes, bytes] = {}
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            is_ended = False
            while not is_ended:
                writer.write(connection.data_to_send())
                data = await reader.read(65_536)
                assert data, "the connection was closed"
                for event in connection.receive_data(data):
                    assert not isinstance(event, DataReceived)
                    if isinstance(event, ResponseReceived | TrailersReceived):
                        trailers |= dict(event.headers)
                    is_ended |= isinstance(event, StreamEnded)
    finally:
        writer.close()
        await writer.wait_closed()
    assert b"x-request-id" in trailers, (headers, trailers)
    return trailers[b"x-request-id"].decode(), trailers


@pytest.mark.guarantee("hostile-requests")
@pytest.mark.fault(19)
async def test_metadata_of_any_bytes_keeps_log_lines_valid(tally: Tally) -> None:
    """Whatever metadata a call has, it is one log line, and its request ID is safe."""
    good, text = b"caller-1", ESCAPES.encode()
    sent: list[tuple[bool, list[tuple[bytes, bytes]]]] = [
        (True, [(b"x-request-id", good), (b"x-request-id", b"caller-2")]),
        (True, [(b"x-request-id", good), (b"user-agent", text + b"u" * 6000)]),
        (True, [(b"x-request-id", text), (b"x-request-id", good)]),
        (False, [(b"x-request-id", b"a" * 65)]),
        (False, [(b"x-request-id", b"")]),
        (False, [(b"x-request-id", good + b"\n")]),
        (False, [(b"x-request-id", "\N{FIRE}".encode())]),
        (False, [(b"x-request-id-bin", b"8J+UpQ")]),
        (False, [(b"grpc-trace-bin", b"IQ"), (b"anything", text)]),
    ]
    async with LyingUpstream() as upstream, own_process(upstream.url) as served:
        for is_taken, headers in sent:
            request_id, trailers = await raw_call(served.address, *headers)
            line = await served.event("call")
            tally.calls += 1
            tally.outcomes[line["reason"]] += 1
            assert b"3" == trailers[b"grpc-status"], headers
            assert (request_id, "INVALID_REQUEST") == (
                line["request_id"],
                line["reason"],
            )
            assert is_taken == (request_id == good.decode()), headers
            assert is_taken or (32 == len(request_id) and request_id.isalnum()), headers
        async with grpc.aio.insecure_channel(served.address) as channel:
            for method in (f"/{RUN_SERVICE}/{ESCAPES}", f"/{ESCAPES}" + "m" * 7000):
                refusal = await refused(channel.unary_unary(method)(b"", timeout=10))
                line = await served.event("call")
                assert "METHOD_UNKNOWN" == refusal.reason == line["reason"]
                assert method.startswith(line["method"])
                assert len(line["method"]) <= 100
        served.terminate()
        code = await served.ended(30)  # parses every log line as JSON

    assert (0, set()) == (code, set(upstream.asked))


@pytest.mark.fault(21)
@pytest.mark.parametrize(
    "method",
    [
        pytest.param(f"/{RUN_SERVICE}/Nope", id="method"),
        pytest.param(f"/{RUN_SERVICE}/getRun", id="case"),
        pytest.param(f"/{RUN_SERVICE}/GetRun/", id="slash"),
        pytest.param(f"/{RUN_SERVICE}/", id="empty"),
        pytest.param("/healthomics.v2.RunService/GetRun", id="service"),
        pytest.param("GetRun", id="no-slash"),
        pytest.param(f"/{ESCAPES}/{CANARY}", id="escapes"),
    ],
)
async def test_unknown_method_is_unimplemented(rigged: Any, method: str) -> None:
    """An unknown method or service is METHOD_UNKNOWN; its name isn't in the error."""
    async with (
        rigged() as rig,
        grpc.aio.insecure_channel(str(rig.served.address)) as channel,
    ):
        call = channel.unary_unary(method)(b"\x0a\x011", timeout=10)
        refusal = await rig.refused(call, Reason.METHOD_UNKNOWN)
        asked = set(rig.upstream.asked)

    assert Reason.METHOD_UNKNOWN.value.message == refusal.message
    assert (ALWAYS, {}) == (set(refusal.details), refusal.metadata)
    assert {TRUE_ID} == asked


class UnspeakableError(Exception):
    """An exception whose text can't be read."""

    def __str__(self) -> str:
        """Raise another exception."""
        raise RuntimeError(ARN)


@pytest.mark.fault(21)
@pytest.mark.parametrize(
    "bug",
    [
        pytest.param(RuntimeError(f"{CANARY} {ARN}"), id="runtime"),
        pytest.param(KeyError(ARN), id="key"),
        pytest.param(TimeoutError(ARN), id="timeout"),
        pytest.param(NotImplementedError(ARN), id="not-implemented"),
        pytest.param(RecursionError(ARN), id="recursion"),
        pytest.param(StopAsyncIteration(ARN), id="stop"),
        pytest.param(UnicodeEncodeError("utf-8", "\ud800", 0, 1, ARN), id="unicode"),
        pytest.param(ExceptionGroup(ARN, [OSError(2, CANARY, ARN)]), id="group"),
        pytest.param(UnspeakableError(ARN), id="unspeakable"),
    ],
)
async def test_bug_is_a_constant_error(tally: Tally, bug: Exception) -> None:
    """Whatever a source raises, the error is the same and the next call is answered."""
    with capture_logs() as log:
        async with serving(Scripted(bug, answer(ID))) as channel:
            stub = RunServiceStub(channel)
            refusal = await refused(get_run(stub, ID))
            run = await get_run(stub, ID)
    tally.calls += 2
    tally.outcomes.update([refusal.reason, "OK"])
    text = f"{refusal.message} {refusal.details} {refusal.trailers}"
    tally.leaked += CANARY in text

    assert_well_made(refusal)
    assert (StatusCode.INTERNAL, "GATEWAY_INTERNAL") == (refusal.code, refusal.reason)
    assert Reason.GATEWAY_INTERNAL.value.message == refusal.message
    assert (ALWAYS, {"runId": ID}) == (set(refusal.details), refusal.metadata)
    assert [] == [each for each in (CANARY, type(bug).__name__) if each in text]
    assert [bug] == [each["exc_info"] for each in log if each["event"] == "bug"]
    assert ID == run.id
