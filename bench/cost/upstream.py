"""A fake HealthOmics that answers any `GET /run/{id}` with prepared bytes.

`GET /count` returns the number of runs returned so far.
"""

import argparse
import asyncio
import re

from common import canned_run

_HEAD_END = b"\r\n\r\n"
_RUN = re.compile(rb"GET /run/([0-9]{1,18})[? ]")
_COUNT = b"GET /count "
_PLACEHOLDER = "000000000000000000"  # for the ID; occurs nowhere else in the answer


class Upstream:
    """Makes the responses, and counts the runs among them."""

    def __init__(self) -> None:
        answer = canned_run.answer(_PLACEHOLDER)
        self._between_ids = answer.split(_PLACEHOLDER.encode())
        self._answered = 0

    def reply(self, head: bytes) -> bytes:
        """Return the HTTP response to the request with this `head`."""
        if run := _RUN.match(head):
            self._answered += 1
            return _response(b"200 OK", run[1].join(self._between_ids))
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
    """A persistent connection for requests without a body, which may be pipelined."""

    _transport: asyncio.Transport

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._unread = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport for the responses."""
        if isinstance(transport, asyncio.Transport):
            self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer each request with a complete head."""
        *heads, self._unread = (self._unread + data).split(_HEAD_END)
        for head in heads:
            self._transport.write(self._upstream.reply(head))


async def serve(port: int) -> None:
    """Serve on loopback until the process is terminated."""
    upstream = Upstream()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(upstream), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    asyncio.run(serve(parser.parse_args().port))
