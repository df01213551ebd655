"""TLS that asks clients for a certificate without insisting on one, before gRPC.

gRPC for Python insists or doesn't ask. So TLS ends here, and what a client sends goes
on to gRPC through a socket in a folder of the process's own, each connection under a
name by which gRPC's calls tell whose they are.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import ssl
import tempfile
from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import structlog
from cryptography import x509
from grpc.aio import ServicerContext

from healthomics_gateway.tls import Client, now_utc

HANDSHAKE_SECONDS = 5.0
ENDING_SECONDS = 5.0  # for the last bytes, when one side has gone
FULL_SECONDS = 0.1  # until the next try, where the process may open no more files
FILES_PER_CONNECTION = 3  # the client's, and both ends of the one to gRPC

_log = structlog.get_logger("front")


class Front:
    """Where clients connect; gRPC listens behind it, at `inner`."""

    def __init__(
        self,
        context: Callable[[], ssl.SSLContext],
        *,
        max_connections: int,
        handshake_seconds: float = HANDSHAKE_SECONDS,
        now: Callable[[], datetime] = now_utc,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """Make the folder; `context` gives what the next handshake is made with.

        While there are `max_connections`, no more are accepted.
        """
        self._context = context
        self._handshake_seconds = handshake_seconds
        self._now = now
        self._sleep = sleep
        self._room = asyncio.Semaphore(max_connections)
        self._clients: dict[str, Client] = {}  # by the name of the inner connection
        self._tasks: set[asyncio.Task[None]] = set()
        self._folder = tempfile.TemporaryDirectory(prefix="gateway-")  # for us alone
        self._inner = f"{self._folder.name}/{secrets.token_hex(8)}"
        self.inner = f"unix:{self._inner}"

    async def start(self, host: str, port: int) -> int:
        """Listen, and give the port; raise OSError where the address can't be had."""
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        )
        family, *_, address = found[0]
        listener = socket.create_server(
            (str(address[0]), port),
            family=family,
            backlog=socket.SOMAXCONN,
            dualstack_ipv6=address[0] == "::" and socket.has_dualstack_ipv6(),
        )
        listener.settimeout(0)
        self._keep(self._accept(listener))
        bound: int = listener.getsockname()[1]
        return bound

    def client_of(self, context: ServicerContext[Any, Any]) -> Client | None:
        """Tell whose call it is; None where it didn't come through here."""
        return self._clients.get(context.peer().rpartition("/")[2])

    async def stop(self) -> None:
        """Stop listening, cut every connection and remove the folder."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._folder.cleanup()

    def _keep(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with listener:
            while True:
                await self._room.acquire()
                try:
                    connection, address = await loop.sock_accept(listener)
                except OSError as error:
                    self._room.release()
                    _log.warning("not_accepting", why=str(error))
                    await self._sleep(FULL_SECONDS)  # files are freed by and by
                    continue
                task = self._keep(self._carry(connection, peer_name(*address[:2])))
                task.add_done_callback(lambda _: self._room.release())

    async def _carry(self, connection: socket.socket, peer: str) -> None:
        """Carry one connection, from its handshake to its end."""
        loop, name = asyncio.get_running_loop(), secrets.token_hex(8)
        outer = _End()
        inner = _End(outer)
        try:
            await loop.connect_accepted_socket(
                lambda: outer,
                connection,
                ssl=self._context(),
                ssl_handshake_timeout=self._handshake_seconds,
            )
            self._clients[name] = Client(peer, self._certificate(outer))
            to_grpc = _connected(f"{self._folder.name}/{name}", self._inner)
            await loop.create_unix_connection(lambda: inner, sock=to_grpc)
            ends = (outer.ended, inner.ended)
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait(ends, timeout=ENDING_SECONDS)
        except OSError as error:  # an SSLError is one, and a handshake that takes long
            why = getattr(error, "verify_message", None) or str(error)
            _log.debug("connection_refused", peer=peer, why=why)
        finally:
            self._clients.pop(name, None)
            outer.cut()
            inner.cut()

    def _certificate(self, outer: _End) -> bytes | None:
        """Give the client's, PEM; raise ConnectionError where it can't be let in."""
        tls = outer.transport.get_extra_info("ssl_object")
        if tls.selected_alpn_protocol() != "h2":
            raise ConnectionAbortedError("it doesn't speak HTTP/2")
        shown = tls.getpeercert(binary_form=True)
        if shown is None:
            return None
        until = x509.load_der_x509_certificate(shown).not_valid_after_utc
        if self._now() > until:  # TLS 1.2 resumes a session without a look at it
            raise ConnectionAbortedError("the certificate of its session has expired")
        return ssl.DER_cert_to_PEM_cert(shown).encode()


def _connected(path: str, inner: str) -> socket.socket:
    """Connect to gRPC from a socket of this path, a name that outlives its file."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(0)
        connection.bind(path)
        connection.connect(inner)  # at once, or not at all
    except OSError:
        connection.close()
        raise
    finally:
        Path(path).unlink(missing_ok=True)
    return connection


class _End(asyncio.Protocol):
    """One side of a connection: what comes in goes out at the other.

    TLS knows no half-closed connection: where one side ends, so does the other.
    """

    def __init__(self, other: _End | None = None) -> None:
        self.ended = asyncio.get_running_loop().create_future()
        self.transport: Any = None
        self.other = other

    def connection_made(self, transport: Any) -> None:
        """Wait for the other side, or let it begin where it is there."""
        self.transport = transport
        if self.other:
            self.other.meet(self)
        else:
            transport.pause_reading()

    def meet(self, other: _End) -> None:
        """Take in what has come until now, and what comes."""
        self.other = other
        self.go_on()

    def data_received(self, data: bytes) -> None:
        """Pass it on."""
        if self.other and not self.other.transport.is_closing():
            self.other.transport.write(data)

    def pause_writing(self) -> None:
        """Take no more in at the other side than goes out here."""
        if self.other:
            self.other.wait()

    def resume_writing(self) -> None:
        """Take in more."""
        if self.other:
            self.other.go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let the last bytes out at the other side and end it; cut it after a cut."""
        self.ended.set_result(None)
        if self.other and exc:
            self.other.cut()
        elif self.other:
            self.other.transport.close()

    def wait(self) -> None:
        """Take nothing in."""
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def go_on(self) -> None:
        """Take in what comes."""
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def cut(self) -> None:
        """Close it at once, where it is there: asyncio's can't be cut twice."""
        if self.transport and not self.ended.done():
            self.transport.abort()


def peer_name(host: str, port: int) -> str:
    """Write an address as gRPC names a peer."""
    host = host.removeprefix("::ffff:") if "." in host else host
    if ":" in host:
        return f"ipv6:%5B{quote(host, safe=':')}%5D:{port}"
    return f"ipv4:{host}:{port}"
