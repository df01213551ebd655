"""Callers can't distinguish a run that they may not see from a missing run."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import StreamEnded
from hyperframe.frame import DataFrame, Frame, HeadersFrame, RstStreamFrame

from load.indistinguishable import ASKS, RULES, SLOWLY, measure, shown, truth
from testkit.builders import http
from testkit.callers import NOWHERE, OTHER, THEIRS, called, token
from testkit.lying_upstream import LyingUpstream, said, true_run

CALLS = 25  # for each run; `make indistinguishable` makes more and compares times
WARM_CALLS = 4  # until both HPACK tables contain the header names
FRAME_HEADER = 9  # bytes
PATIENCE_SECONDS = 10.0


@pytest.mark.parametrize("name", ASKS)
async def test_refusals_are_equal(tmp_path: Path, name: str) -> None:
    """Both refusals are equal for the caller, and cost the same upstream requests."""
    upstream = LyingUpstream(truth=truth)
    async with called(tmp_path, *RULES, upstream=upstream, **SLOWLY) as gateway:
        await gateway.get(THEIRS, token(OTHER))  # the run is in the cache from now on
        before = Counter(upstream.asked)
        found = await measure(gateway, ASKS[name], CALLS)

    ((code, reason, *_),) = found.answers
    assert ("PERMISSION_DENIED", "CALLER_NOT_AUTHORIZED") == (code.name, reason)
    assert {THEIRS: CALLS, NOWHERE: CALLS} == upstream.asked - before


@pytest.mark.guarantee("hidden-runs")
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        pytest.param("GetRun", "SERVER_DEADLINE", id="get"),
        pytest.param("WatchRun's first message", "WATCH_RENEW", id="watch"),
    ],
)
async def test_refusals_are_equal_if_a_time_limit_ends_their_delay(
    tmp_path: Path, name: str, reason: str
) -> None:
    """A time limit that passes during the delay shows nothing about the run either."""
    limits = dict.fromkeys(
        (
            "GATEWAY_DEFAULT_DEADLINE",
            "GATEWAY_MAX_DEADLINE",
            "GATEWAY_WATCH__MAX_STREAM",
        ),
        "300ms",
    )
    upstream = LyingUpstream(truth=truth)
    async with called(
        tmp_path, *RULES, upstream=upstream, refusal_seconds=5.0, **limits
    ) as gateway:
        found, absent = [await ASKS[name](gateway, run) for run in (THEIRS, NOWHERE)]

    assert reason == found.reason
    assert shown(found) == shown(absent)
    assert [{"runId": THEIRS}, {"runId": NOWHERE}] == [found.metadata, absent.metadata]


class Wire:
    """An HTTP/2 client that keeps the bytes of each answer."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, bearer: str
    ) -> None:
        """Begin the connection. Each call has the same ID and token."""
        self._reader, self._writer = reader, writer
        self._headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":authority", "localhost"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("x-request-id", "the-same"),
            ("authorization", f"Bearer {bearer}"),
        ]
        self._connection = H2Connection(H2Configuration(client_side=True))
        self._connection.initiate_connection()
        self._kept = b""  # an incomplete frame

    async def call(self, method: str, run_id: str) -> tuple[tuple[str, bytes], ...]:
        """Make one call. Return the flags and payload of the answer's frames."""
        stream = self._connection.get_next_available_stream_id()
        path = (":path", f"/healthomics.v1.RunService/{method}")
        message = b"\x0a%c%b" % (len(run_id), run_id.encode())
        body = b"\0" + len(message).to_bytes(4, "big") + message
        self._connection.send_headers(stream, [path, *self._headers])
        self._connection.send_data(stream, body, end_stream=True)
        frames: list[tuple[str, bytes]] = []
        is_over = False
        while not is_over:
            self._writer.write(self._connection.data_to_send())
            came = await self._reader.read(65_536)
            assert came, "the gateway has hung up"
            events = self._connection.receive_data(came)
            is_over = any(isinstance(each, StreamEnded) for each in events)
            frames += self._answer_in(came)
        return tuple(frames)

    def _answer_in(self, came: bytes) -> Iterator[tuple[str, bytes]]:
        """Return all frames except those about the connection, such as PING."""
        self._kept += came
        while len(self._kept) >= FRAME_HEADER:
            head = memoryview(self._kept[:FRAME_HEADER])
            frame, length = Frame.parse_frame_header(head)
            end = FRAME_HEADER + length
            if len(self._kept) < end:
                return
            payload, self._kept = self._kept[FRAME_HEADER:end], self._kept[end:]
            if isinstance(frame, DataFrame | HeadersFrame | RstStreamFrame):
                yield f"{type(frame).__name__} {sorted(frame.flags)}", payload


@pytest.mark.parametrize("method", ["GetRun", "WatchRun"])
async def test_refusals_are_equal_bytes(tmp_path: Path, method: str) -> None:
    """For one ID, the refusals of a forbidden and a missing run are equal bytes."""
    there, absent = (
        http(true_run(THEIRS, runGroupId="7654322")),
        said(404, "ResourceNotFoundException"),
    )
    upstream = LyingUpstream(truth=truth)
    upstream.lie(THEIRS, *[there, absent] * (WARM_CALLS + CALLS))
    async with called(tmp_path, *RULES, upstream=upstream, **SLOWLY) as gateway:
        address = gateway.served.address
        async with asyncio.timeout(PATIENCE_SECONDS):
            streams = await asyncio.open_connection(address.host, address.port)
            wire = Wire(*streams, token())
            answers = [
                await wire.call(method, THEIRS) for _ in range(2 * (WARM_CALLS + CALLS))
            ]
            streams[1].close()

    (only,) = set(answers[2 * WARM_CALLS :])
    assert ["HeadersFrame ['END_HEADERS', 'END_STREAM']"] == [kind for kind, _ in only]
    assert 2 * (WARM_CALLS + CALLS) == upstream.asked[THEIRS]
