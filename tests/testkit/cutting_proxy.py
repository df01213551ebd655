"""A proxy between a client and a gateway that ends streams early."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Semaphore

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, RequestReceived, StreamEnded

from healthomics.v1.run_pb2 import Run
from healthomics.v1.run_service_pb2 import WatchRunRequest, WatchRunResponse

PATIENCE_SECONDS = 10.0
ANSWER = [(":status", "200"), ("content-type", "application/grpc")]

Cut = Callable[[H2Connection, int], None]  # of one stream, by its id


def reset(code: ErrorCodes) -> Cut:
    """Reset the stream."""
    return lambda connection, stream: connection.reset_stream(stream, code)


def go_away(connection: H2Connection, _stream: int) -> None:
    """Send GOAWAY, and close the connection with its streams."""
    connection.close_connection(ErrorCodes.NO_ERROR, last_stream_id=0)


def hang_up(_connection: H2Connection, _stream: int) -> None:
    """Close the connection without a frame."""


def end_without_status(connection: H2Connection, stream: int) -> None:
    """End the stream correctly for HTTP, without gRPC's status."""
    connection.end_stream(stream)


def end_in_a_message(connection: H2Connection, stream: int) -> None:
    """End the stream inside a message."""
    connection.send_data(stream, b"\0\0\0\0\x09abc", end_stream=True)


def say_ok(connection: H2Connection, stream: int) -> None:
    """End the stream as a gateway does."""
    connection.send_headers(stream, [("grpc-status", "0")], end_stream=True)


CUTS: dict[str, Cut] = {
    "internal-error": reset(ErrorCodes.INTERNAL_ERROR),
    "no-error": reset(ErrorCodes.NO_ERROR),
    "cancel": reset(ErrorCodes.CANCEL),
    "refused": reset(ErrorCodes.REFUSED_STREAM),
    "protocol-error": reset(ErrorCodes.PROTOCOL_ERROR),
    "calm-down": reset(ErrorCodes.ENHANCE_YOUR_CALM),
    "go-away": go_away,
    "hang-up": hang_up,
    "no-status": end_without_status,
    "amid-a-message": end_in_a_message,
}


@dataclass
class Proxy:
    """Answers each stream with one state, and ends it with the next function of `cuts`.

    It ends a stream once the client has `seen` the state, as gRPC may drop messages
    that arrive together with the end of a stream.
    """

    cuts: Sequence[Cut]
    states: Sequence[Run]  # one more; the last ends the watch
    listener: socket.socket
    seen: Semaphore = field(default_factory=lambda: Semaphore(0))
    requests: list[WatchRunRequest] = field(default_factory=list)

    def serve(self) -> None:
        """Serve one connection after the other, until the run has completed."""
        while len(self.requests) <= len(self.cuts):
            client, _ = self.listener.accept()
            with client:
                client.settimeout(PATIENCE_SECONDS)
                self._serve(client)

    def _serve(self, client: socket.socket) -> None:
        connection = H2Connection(H2Configuration(client_side=False))
        connection.initiate_connection()
        client.sendall(connection.data_to_send())
        bodies: dict[int, bytes] = {}
        while came := client.recv(65_536):
            is_left = False
            for event in connection.receive_data(came):
                if isinstance(event, RequestReceived):
                    bodies[event.stream_id] = b""
                elif isinstance(event, DataReceived):
                    bodies[event.stream_id] += event.data
                elif isinstance(event, StreamEnded):
                    body = bodies[event.stream_id][5:]
                    self.requests.append(WatchRunRequest.FromString(body))
                    is_left |= self._answer(client, connection, event.stream_id)
            client.sendall(connection.data_to_send())
            if is_left:
                return

    def _answer(
        self, client: socket.socket, connection: H2Connection, stream: int
    ) -> bool:
        """Answer a stream; return whether the connection is closed too."""
        at = len(self.requests) - 1
        cut = [*self.cuts, say_ok][at]
        message = WatchRunResponse(run=self.states[at]).SerializeToString()
        connection.send_headers(stream, ANSWER)
        connection.send_data(stream, b"\0" + struct.pack(">I", len(message)) + message)
        client.sendall(connection.data_to_send())
        assert self.seen.acquire(timeout=PATIENCE_SECONDS)
        cut(connection, stream)
        return cut in (go_away, hang_up)


@contextmanager
def proxy(cuts: Sequence[Cut], states: Sequence[Run]) -> Iterator[tuple[str, Proxy]]:
    """Serve the proxy and return its address."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        ThreadPoolExecutor(1) as pool,
    ):
        listener.settimeout(PATIENCE_SECONDS)
        made = Proxy(cuts, states, listener)
        serving = pool.submit(made.serve)
        host, port = listener.getsockname()
        yield f"{host}:{port}", made
        serving.result(PATIENCE_SECONDS)
