"""HealthOmics in canned bytes: any `GET /run/{id}` is answered as cheaply as can be.

`GET /count` answers how many runs were answered so far, and isn't counted.
"""

import argparse
import asyncio
import re

import canned

_HEAD_END = b"\r\n\r\n"
_RUN = re.compile(rb"GET /run/([0-9]{1,18})[? ]")
_COUNT = b"GET /count "
_STAND_IN = "000000000000000000"  # where the id goes: longer than any in use here


class Upstream:
    """Knows the canned answer and counts how often it was given."""

    def __init__(self) -> None:
        self._before_id, *self._after_ids = canned.answer(_STAND_IN).split(
            _STAND_IN.encode()
        )
        self._answered = 0

    def reply(self, head: bytes) -> bytes:
        """Return the whole HTTP response to the request that `head` opens."""
        if run := _RUN.match(head):
            self._answered += 1
            body = run[1].join((self._before_id, *self._after_ids))
            return _response(b"200 OK", body)
        if head.startswith(_COUNT):
            return _response(b"200 OK", b"%d" % self._answered)
        return _response(b"404 Not Found", b'{"message":"no such operation"}')


def _response(status: bytes, body: bytes) -> bytes:
    return (
        b"HTTP/1.1 %b\r\n"
        b"Content-Type: application/json\r\n"
        b"Content-Length: %d\r\n"
        b"x-amzn-RequestId: 7f2c4b1e-0d53-4a86-9f7e-2b8f4f1f9a11\r\n"
        b"\r\n%b" % (status, len(body), body)
    )


class Connection(asyncio.Protocol):
    """One kept-alive connection: requests without a body, also pipelined ones."""

    _transport: asyncio.Transport

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._unread = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        if isinstance(transport, asyncio.Transport):
            self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer every request whose head is complete."""
        *heads, self._unread = (self._unread + data).split(_HEAD_END)
        for head in heads:
            self._transport.write(self._upstream.reply(head))


async def serve(port: int) -> None:
    """Answer on loopback until the process is ended."""
    upstream = Upstream()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(upstream), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    asyncio.run(serve(parser.parse_args().port))
