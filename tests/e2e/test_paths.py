"""A call whose path isn't UTF-8. It ends the accept loop of some grpcio releases.

`make floor` runs these tests with the oldest grpcio that is supported.
"""

from __future__ import annotations

import asyncio
import ssl
from asyncio import StreamReader
from pathlib import Path
from typing import Any

import pytest
import trustme
from hpack import Encoder, NeverIndexedHeaderTuple
from hyperframe.frame import HeadersFrame, RstStreamFrame, SettingsFrame

from healthomics_gateway.sandbox import Sandbox
from testkit.authorities import HOST, channel_to, root_of, tls_settings
from testkit.builders import aws_at, calling, gateway, get_run
from testkit.callers import stub_on

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
PATIENCE_SECONDS = 10.0
FRAME_HEADER, END_STREAM = 9, 1
PATHS = [
    pytest.param(b"/\xff", id="byte"),
    pytest.param(b"\xff", id="no-slash"),
    pytest.param(b"/healthomics.v1.RunService/Get\xc3\x28", id="cut-sequence"),
    pytest.param(b"/grpc.health.v1.Health/\xed\xa0\x80", id="surrogate"),
]


def call_of(path: bytes) -> bytes:
    """Return the frames that begin a connection and make a call of `path`."""
    headers = (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path),
        (b":authority", b"localhost"),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
    )
    block = Encoder().encode([NeverIndexedHeaderTuple(*each) for each in headers])
    frame = HeadersFrame(1, bytes(block), flags=["END_HEADERS", "END_STREAM"])
    return PREFACE + SettingsFrame().serialize() + frame.serialize()


async def ended(reader: StreamReader) -> None:
    """Read until the call ends with trailers or a reset."""
    while True:
        head = await reader.readexactly(FRAME_HEADER)
        await reader.readexactly(int.from_bytes(head[:3]))
        is_end = head[3] == HeadersFrame.type and head[4] & END_STREAM
        if is_end or head[3] == RstStreamFrame.type:
            return


async def attack(address: Any, path: bytes, tls: ssl.SSLContext | None) -> None:
    """Make the call and wait for its end."""
    reader, writer = await asyncio.open_connection(address.host, address.port, ssl=tls)
    try:
        writer.write(call_of(path))
        async with asyncio.timeout(PATIENCE_SECONDS):
            await ended(reader)
    finally:
        writer.close()


@pytest.mark.parametrize("path", PATHS)
async def test_path_that_is_not_utf_8_ends_only_its_call(path: bytes) -> None:
    """After such a call new connections are served as before."""
    async with Sandbox() as sandbox, gateway(aws_at(sandbox.url)) as served:
        await attack(served.address, path, None)
        async with calling(served) as stub:
            run = await get_run(stub, "1000003")

    assert "1000003" == run.id


async def test_path_that_is_not_utf_8_ends_only_its_call_over_tls(
    tmp_path: Path,
) -> None:
    """After such a call over TLS new connections are served as before."""
    authority = trustme.CA()
    files = tls_settings(authority.issue_cert(HOST), tmp_path)
    tls = ssl.create_default_context(cadata=root_of(authority).decode())
    tls.set_alpn_protocols(["h2"])
    async with Sandbox() as sandbox, gateway(aws_at(sandbox.url), **files) as served:
        await attack(served.address, b"/\xff", tls)
        async with channel_to(str(served.address), root_of(authority)) as channel:
            run = await get_run(stub_on(channel), "1000003")

    assert "1000003" == run.id
