"""Detects that new calls can't reach the gateway, by its accept loops and by probes.

grpc.aio accepts the calls of a server in one task. If that task ends, the process goes
on without serving. Since grpcio 1.81 a call with a path that isn't UTF-8 causes this.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import structlog

from healthomics_gateway.net.addresses import UNIX, split_port

PAUSE_SECONDS = 2.0  # between two probes of a listener
TICK_SECONDS = 0.2
TICKS = 25  # time limit of a probe; a blocked event loop makes no ticks
FAILURES = 3  # consecutive ones, until a listener counts as dead

_ACCEPT_LOOP = "_server_main_loop"  # the coroutine of grpc.aio
_FRAME_HEADER = 9
_DATA, _HEADERS, _SETTINGS = 0, 1, 4
_END_STREAM, _END_HEADERS = 1, 4

_log = structlog.get_logger("liveness")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """An address of the gateway to probe."""

    address: str  # host:port, or unix: and a path
    is_tls: bool
    takes_calls: bool  # whether it serves health without an identity


class Outcome(Enum):
    """The outcome of a probe."""

    ANSWERED = auto()
    SILENT = auto()  # the connection was accepted, but the call wasn't answered
    REFUSED = auto()  # nothing listens
    UNKNOWN = auto()  # such as a connection beyond the limit


def accept_loops() -> frozenset[asyncio.Task[Any]]:
    """Return the tasks in which grpc.aio accepts calls."""
    return frozenset(
        task
        for task in asyncio.all_tasks()
        if getattr(task.get_coro(), "__name__", "") == _ACCEPT_LOOP
    )


class Liveness:
    """Detects that new calls can't reach a listener."""

    def __init__(
        self,
        *,
        accepted: Callable[[], int],
        tick_seconds: float = TICK_SECONDS,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """Create it alive; `accepted` returns the number of calls so far.

        While that number grows, a probe without an answer doesn't count.
        """
        self._accepted = accepted
        self._tick_seconds = tick_seconds
        self._sleep = sleep
        self._is_stopped = False
        self._fault: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def stop(self) -> None:
        """Stop reporting, because the server is about to stop."""
        self._is_stopped = True

    async def end(self) -> str:
        """Wait until new calls can't reach the listener; return why."""
        return await asyncio.shield(self._fault)

    def watch(self, loops: Iterable[asyncio.Task[Any]]) -> None:
        """Report the listener as dead when one of these accept loops ends."""
        for each in loops:
            each.add_done_callback(lambda _: self._die("its accept loop has ended"))

    async def probe(self, target: Target) -> None:
        """Probe an address repeatedly until FAILURES probes in a row fail."""
        failures = 0
        while failures < FAILURES:
            await self._sleep(PAUSE_SECONDS)  # between two probes
            accepted = self._accepted()
            outcome = await self._outcome(target)
            has_failed = outcome in (Outcome.SILENT, Outcome.REFUSED)
            if has_failed and self._accepted() == accepted:
                failures += 1
                _log.warning(
                    "probe_failed", address=target.address, outcome=outcome.name
                )
            elif outcome is Outcome.ANSWERED or has_failed:
                failures = 0
        self._die(f"{target.address} doesn't answer")

    async def _outcome(self, target: Target) -> Outcome:
        """Probe once; the time limit doesn't count while the event loop is blocked."""
        probe = _Probe(target)
        running = asyncio.create_task(probe.run())
        for _ in range(TICKS):
            await asyncio.wait([running], timeout=self._tick_seconds)
            if running.done():
                break
        running.cancel()
        await asyncio.wait([running])
        return probe.outcome

    def _die(self, fault: str) -> None:
        if not (self._is_stopped or self._fault.done()):
            _log.error("not_accepting", why=fault)
            self._fault.set_result(fault)


@dataclass(slots=True)
class _Probe:
    """One connection, and its outcome so far."""

    target: Target
    outcome: Outcome = Outcome.UNKNOWN

    async def run(self) -> None:
        """Connect, call and read until the outcome is known."""
        try:
            async with _connected(self.target) as (reader, writer):
                if self.target.takes_calls:
                    writer.write(REQUEST)
                    await self._read_answer(reader)
                else:
                    self.outcome = Outcome.ANSWERED
        except (ConnectionRefusedError, FileNotFoundError):
            self.outcome = Outcome.REFUSED
        except ssl.SSLError:
            self.outcome = Outcome.ANSWERED  # a TLS error is an answer
        except (OSError, EOFError):
            self.outcome = Outcome.UNKNOWN

    async def _read_answer(self, reader: asyncio.StreamReader) -> None:
        while self.outcome is not Outcome.ANSWERED:
            head = await reader.readexactly(_FRAME_HEADER)
            await reader.readexactly(int.from_bytes(head[:3]))
            is_headers = head[3] == _HEADERS
            self.outcome = Outcome.ANSWERED if is_headers else Outcome.SILENT


@asynccontextmanager
async def _connected(
    target: Target,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    tls = _tls() if target.is_tls else None
    if target.address.startswith(UNIX):
        path = target.address.removeprefix(UNIX)
        reader, writer = await asyncio.open_unix_connection(path)
    else:
        host, port = split_port(target.address)
        reader, writer = await asyncio.open_connection(host, port, ssl=tls)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


def _tls() -> ssl.SSLContext:
    """Return a context that doesn't verify, as the certificate has another name."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname = False
    tls.verify_mode = ssl.CERT_NONE
    tls.set_alpn_protocols(["h2"])
    return tls


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return (
        len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + payload
    )


def _header(name: str, value: str) -> bytes:
    """Return an HPACK header, a literal with a literal name."""
    return b"\0%c%b%c%b" % (len(name), name.encode(), len(value), value.encode())


# The HTTP/2 frames of a Health.Check call.
REQUEST = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    + _frame(_SETTINGS, 0, 0, b"")
    + _frame(
        _HEADERS,
        _END_HEADERS,
        1,
        b"".join(
            _header(*each)
            for each in (
                (":method", "POST"),
                (":scheme", "http"),
                (":path", "/grpc.health.v1.Health/Check"),
                (":authority", "localhost"),
                ("content-type", "application/grpc"),
                ("te", "trailers"),
            )
        ),
    )
    + _frame(_DATA, _END_STREAM, 1, bytes(5))  # an empty message
)
