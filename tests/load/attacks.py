"""The frames of clients that abuse HTTP/2, and their rates."""

from __future__ import annotations

import json
import math
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count, repeat
from types import MappingProxyType

from hpack import Encoder, NeverIndexedHeaderTuple
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from healthomics.v1.run_service_pb2 import WatchRunRequest

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
CANCEL = 8
STREAMS = 500  # that the gateway allows on a connection
FIRST_ID = 4_000_000  # ids of the requested runs
WATCHES = 300  # on one connection
SECRET_BYTES = 64  # of a signature
SIZES = MappingProxyType({20_000: 100.0, 900_000: 10.0})
MASKED = (
    "arn",
    "name",
    "status",
    "priority",
    "tags",
    "uuid",
    "digest",
    "output_uri",
    "role_arn",
)

Units = Callable[[int], Iterator[bytes]]


def _greeting(**settings: int) -> bytes:
    known = {getattr(SettingsFrame, name): settings[name] for name in settings}
    return PREFACE + SettingsFrame(settings=known).serialize()


def _header(name: str | bytes, value: str | bytes) -> bytes:
    """Return one header as a literal, which doesn't depend on earlier headers."""
    raw = [each.encode() if isinstance(each, str) else each for each in (name, value)]
    return bytes(Encoder().encode([NeverIndexedHeaderTuple(*raw)]))


def _headers(path: str | bytes) -> bytes:
    return b"".join(
        _header(*each)
        for each in (
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "localhost"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        )
    )


def _bearer(token: str) -> bytes:
    return _header("authorization", f"Bearer {token}")


CALL = _headers("/healthomics.v1.RunService/GetRun")
WATCH = _headers("/healthomics.v1.RunService/WatchRun")
HEALTH_WATCH = _headers("/grpc.health.v1.Health/Watch")
BAD_PATH = _headers(b"/\xff")
GARBAGE = CALL + _bearer(f"{'x' * 300}.{'y' * 300}.{'z' * 86}")


def _begun(stream: int, headers: bytes = CALL) -> bytes:
    return HeadersFrame(stream, headers, flags=["END_HEADERS"]).serialize()


def _sent(stream: int, headers: bytes, message: bytes) -> bytes:
    body = b"\0" + len(message).to_bytes(4, "big") + message
    data = DataFrame(stream, body, flags=["END_STREAM"])
    return _begun(stream, headers) + data.serialize()


def _called(stream: int, run_id: int, headers: bytes = CALL) -> bytes:
    digits = str(run_id).encode()
    return _sent(stream, headers, b"\x0a%c%b" % (len(digits), digits))


def _again(frame: Frame) -> Iterator[bytes]:
    return repeat(frame.serialize())


def rapid_resets(_number: int) -> Iterator[bytes]:
    """Make call after call, and reset each at once."""
    for at in count():
        stream = 2 * at + 1
        reset = RstStreamFrame(stream, CANCEL).serialize()
        yield _called(stream, FIRST_ID + at) + reset


def pings(_number: int) -> Iterator[bytes]:
    """Send pings without end."""
    return _again(PingFrame(0, b"attacker"))


def settings(_number: int) -> Iterator[bytes]:
    """Change a setting without end; the server must acknowledge each change."""
    table = SettingsFrame.HEADER_TABLE_SIZE
    return _again(SettingsFrame(settings={table: 4096}))


def continuations(_number: int) -> Iterator[bytes]:
    """Begin the headers of one call, and never end them."""
    yield HeadersFrame(1, CALL).serialize()
    yield from _again(ContinuationFrame(1, _header("filler", "x" * 200)))


def headers_alone(_number: int) -> Iterator[bytes]:
    """Begin call after call without sending a message."""
    for at in count():
        yield _begun(2 * at + 1)


def empty_data(_number: int) -> Iterator[bytes]:
    """Begin one call, and send empty data frames without end."""
    yield _begun(1)
    yield from _again(DataFrame(1, b""))


def window_updates(_number: int) -> Iterator[bytes]:
    """Open the connection's window byte by byte."""
    return _again(WindowUpdateFrame(0, window_increment=1))


def unread_calls(number: int) -> Iterator[bytes]:
    """Make as many calls as a connection may, each for a different run."""
    for at in range(STREAMS):
        yield _called(2 * at + 1, FIRST_ID + number * STREAMS + at)


def calls_without_token(_number: int) -> Iterator[bytes]:
    """Make call after call without a token."""
    return (_called(2 * at + 1, FIRST_ID) for at in count())


def calls_with_forged_token(_number: int) -> Iterator[bytes]:
    """Make call after call with a token of an unknown issuer."""
    return (_called(2 * at + 1, FIRST_ID, GARBAGE) for at in count())


def bad_paths(_number: int) -> Iterator[bytes]:
    """Make call after call with a path that isn't UTF-8."""
    return (_begun(2 * at + 1, BAD_PATH) for at in count())


def health_watches(_number: int) -> Iterator[bytes]:
    """Open as many health streams as a connection may have."""
    return (_sent(2 * at + 1, HEALTH_WATCH, b"") for at in range(STREAMS))


def watches(_number: int) -> Iterator[bytes]:
    """Watch one run with many streams."""
    request = WatchRunRequest(id=str(FIRST_ID)).SerializeToString()
    return (_sent(2 * at + 1, WATCH, request) for at in range(WATCHES))


def masked_watches(_number: int) -> Iterator[bytes]:
    """Watch one run with many streams, each with a different field mask."""
    for at in range(WATCHES):
        request = WatchRunRequest(id=str(FIRST_ID))
        paths = [path for bit, path in enumerate(MASKED) if at >> bit & 1]
        request.read_mask.paths.extend(["parameters", *paths])
        yield _sent(2 * at + 1, WATCH, request.SerializeToString())


def calls_with_unknown_keys(number: int) -> Iterator[bytes]:
    """Make call after call, each with a token that names another unknown key."""
    for at in count():
        headers = CALL + _bearer(_token(f"unknown-{number}-{at}"))
        yield _called(2 * at + 1, FIRST_ID, headers)


def _token(kid: str) -> str:
    """Return a token of the right form without a valid signature."""
    claims = {"iss": "https://issuer.test", "aud": "gateway", "sub": "unknown"}
    parts = (
        json.dumps({"alg": "ES256", "typ": "JWT", "kid": kid}).encode(),
        json.dumps(claims | {"exp": int(time.time()) + 300}).encode(),
        bytes(SECRET_BYTES),
    )
    return ".".join(urlsafe_b64encode(each).decode().rstrip("=") for each in parts)


def nothing(_number: int) -> Iterator[bytes]:
    """Send no frame."""
    return iter(())


@dataclass(frozen=True, slots=True)
class Attack:
    """The frames that an attacker sends on each of its connections."""

    title: str
    unit: str  # the name of a unit
    units: Units  # frames for the connection with a number
    rate: float = 20_000.0  # units a second, on all connections together
    connections: int = 4
    greeting: bytes = _greeting()
    is_reading: bool = True
    in_hand: int | None = None  # units that may be open on each connection
    sources: int = 1  # loopback addresses of the connections
    # The sizes of the answers in bytes, and the rate for each: attacks that ask for
    # them are slow enough to be answered. They don't show that many calls make others
    # wait, but what happens to answers that no client reads.
    sizes: Mapping[int, float] = field(default_factory=dict)


ATTACKS = {
    "rapid-reset": Attack("rapid reset", "streams", rapid_resets, rate=1000),
    "ping": Attack("PING flood", "frames", pings),
    "settings": Attack("SETTINGS flood", "frames", settings),
    "continuation": Attack("endless CONTINUATION", "frames", continuations),
    "headers": Attack("HEADERS without DATA", "streams", headers_alone, rate=500),
    "empty-data": Attack("DATA of no bytes", "frames", empty_data),
    "window-update": Attack("WINDOW_UPDATE flood", "frames", window_updates),
    "silent": Attack("silent TCP", "frames", nothing, connections=200, greeting=b""),
    "preface": Attack(
        "preface alone", "frames", nothing, connections=200, greeting=PREFACE
    ),
    "window-zero": Attack(
        "a window of no bytes",
        "streams",
        unread_calls,
        rate=1000,
        connections=1,
        greeting=_greeting(INITIAL_WINDOW_SIZE=0),
        sizes=SIZES,
    ),
    "unread": Attack(
        "a client that reads nothing",
        "streams",
        unread_calls,
        rate=1000,
        connections=1,
        greeting=_greeting(INITIAL_WINDOW_SIZE=(1 << 31) - 1)
        + WindowUpdateFrame(0, window_increment=(1 << 31) - 1 - 65_535).serialize(),
        is_reading=False,
        sizes=SIZES,
    ),
    "bad-path": Attack("paths that aren't UTF-8", "calls", bad_paths, rate=1000),
    "health-zero": Attack(
        "health streams, a window of no bytes",
        "streams",
        health_watches,
        rate=1000,
        greeting=_greeting(INITIAL_WINDOW_SIZE=0),
    ),
    "watches-zero": Attack(
        "watches of one run, no window",
        "streams",
        watches,
        connections=1,
        greeting=_greeting(INITIAL_WINDOW_SIZE=0),
        sizes=MappingProxyType({98_000: 300.0, 692_000: 60.0}),
    ),
    "masks-zero": Attack(
        "watches with masks, no window",
        "streams",
        masked_watches,
        connections=1,
        greeting=_greeting(INITIAL_WINDOW_SIZE=0),
        sizes=MappingProxyType({98_000: 300.0}),
    ),
}
# As fast as they are answered: a gateway that authenticates its callers must bear it.
UNKNOWN_CALLERS = {
    "no-token": Attack(
        "calls without a token",
        "calls",
        calls_without_token,
        math.inf,
        connections=2,
        in_hand=STREAMS,
    ),
    "forged-token": Attack(
        "calls with a forged token",
        "calls",
        calls_with_forged_token,
        math.inf,
        connections=2,
        in_hand=STREAMS,
    ),
    "unknown-key": Attack(
        "calls with tokens of unknown keys",
        "calls",
        calls_with_unknown_keys,
        math.inf,
        connections=2,
        in_hand=STREAMS,
    ),
    "health-streams": Attack(
        "health streams without a token", "streams", health_watches, rate=1000
    ),
    "sybils": Attack(
        "calls from 32 loopback addresses",
        "calls",
        calls_without_token,
        math.inf,
        connections=32,
        in_hand=STREAMS // 8,
        sources=32,
    ),
}
