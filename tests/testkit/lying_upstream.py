"""A HealthOmics that answers correctly, except for the runs that it has lies for."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Self, TypeAlias
from uuid import uuid4

from multidict import CIMultiDict, CIMultiDictProxy

from healthomics_gateway.sandbox.errors import AwsError
from healthomics_gateway.sandbox.signature import ReceivedRequest, verify
from testkit.arrivals import noted_at
from testkit.builders import http
from testkit.connections import HOST, ConnectionServer, cancel

TRUE_ID = "1000003"  # a run without a lie
CANARY = "canary-5f1d"  # part of all that AWS sends and callers must not receive
ARN = f"arn:aws:iam::123456789012:role/{CANARY}"


@dataclass(frozen=True, slots=True)
class Wait:
    """A pause, which ends early if the client disconnects."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Drip:
    """Bytes sent one by one."""

    data: bytes
    every_seconds: float


RESET, CLOSE, HANG = "reset", "close", "hang"  # the ends that an answer may have
Part: TypeAlias = bytes | Wait | Drip | asyncio.Event | str  # an event is waited for
Answer: TypeAlias = bytes | Sequence[Part]
Lie: TypeAlias = Answer | Callable[["Request"], Answer]


@dataclass(frozen=True, slots=True)
class Request:
    """A received request; `fault` is AWS's code if its signature is invalid."""

    run_id: str
    target: str
    headers: CIMultiDictProxy[str]
    connection: int  # number of the connection, counted from 1
    at: float  # seconds of the loop's clock
    fault: str


def true_run(run_id: str, **members: object) -> str:
    """Return a run as JSON; ARNs and values in it are canaries."""
    return json.dumps(
        {
            "id": run_id,
            "arn": f"{ARN}/run/{run_id}",
            "name": "germline",
            "status": "RUNNING",
            "parameters": {"sample": CANARY},
            "creationTime": "2026-01-02T03:04:05Z",
            **members,
        }
    )


def said(status: int, code: str = "", message: str = CANARY, **headers: str) -> bytes:
    """Return an error as AWS sends it, with its code in the header."""
    named = {"x_amzn_errortype": code} if code else {}
    id_ = {"x_amzn_requestid": str(uuid4())}
    return http(
        json.dumps({"message": f"{message} {ARN}"}),
        status=status,
        **(named | id_ | headers),
    )


def _truth(request: Request) -> Answer:
    return http(true_run(request.run_id), x_amzn_requestid=str(uuid4()))


class LyingUpstream:
    """Answers over real sockets, records every request and verifies its signature."""

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        session_token: str | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        truth: Callable[[Request], Answer] = _truth,
    ) -> None:
        """Accept signatures with `session_token`, and with a time near `now`.

        `truth` returns the answer about a run without a lie.
        """
        self._truth = truth
        self._lies: dict[str, Sequence[Lie]] = {}
        self._server = ConnectionServer(self._talk, tls=tls, backlog=1024)
        self._busy: set[asyncio.Task[None]] = set()
        self._idle: set[asyncio.Task[None]] = set()
        self.session_token = session_token
        self.now = now
        self.requests: list[Request] = []
        self.asked: Counter[str] = Counter()  # by run's id
        self.accepted = 0  # connections
        self.hung_up: Counter[str] = Counter()  # disconnects, by run's id

    def lie(self, run_id: str, *lies: Lie) -> None:
        """Answer request number n about a run with lie number n; the last one repeats.

        A lie is bytes, or a sequence of parts: bytes, pauses and an end; or a function
        that returns one of these for a request. A lie that doesn't end in CLOSE, RESET
        or HANG keeps the connection open, unless its bytes say `connection: close`.
        """
        self._lies[run_id] = lies
        self.asked[run_id] = 0

    @property
    def port(self) -> int:
        """The port that the upstream listens on."""
        return self._server.port

    @property
    def url(self) -> str:
        """The URL of the upstream."""
        return self._server.url.replace(f"https://{HOST}", "https://localhost")

    @property
    def busy(self) -> int:
        """The number of requests that are being answered."""
        return len(self._busy)

    async def __aenter__(self) -> Self:
        """Listen on a free port."""
        await self._server.listen()
        self.arrivals = noted_at(self.url)
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Close every connection."""
        await self._server.stop()

    async def hang_up_idle(self) -> None:
        """Close the idle connections."""
        await cancel(self._idle)

    async def _talk(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.accepted += 1
        number = self.accepted
        task = asyncio.current_task()
        assert task
        request = None
        try:
            while not writer.is_closing():
                request = None
                head = await reader.readuntil(b"\r\n\r\n")
                self._idle.discard(task)
                self._busy.add(task)
                request = self._recorded(head, number)
                for part in self._answer(request):
                    await _say(part, reader, writer)
                    await asyncio.sleep(0)  # others share this loop
                self._busy.discard(task)
                self._idle.add(task)
        except (asyncio.IncompleteReadError, ConnectionError):
            if request:
                self.hung_up[request.run_id] += 1
        finally:
            self._busy.discard(task)
            self._idle.discard(task)

    def _recorded(self, head: bytes, connection: int) -> Request:
        line, *lines = head.decode().split("\r\n")
        method, target, _ = line.split(" ")
        path, _, query = target.partition("?")
        headers = CIMultiDictProxy(
            CIMultiDict(each.split(": ", 1) for each in lines if each)
        )
        received = ReceivedRequest(
            method=method, path=path, query=query, headers=headers, body=b""
        )
        fault = ""
        try:
            verify(received, now=self.now(), session_token=self.session_token)
        except AwsError as error:
            fault = error.code
        at = asyncio.get_running_loop().time()
        run_id = path.rpartition("/")[2]
        request = Request(run_id, target, headers, connection, at, fault)
        self.requests.append(request)
        self.asked[run_id] += 1
        self.arrivals.note(self._account(request))
        return request

    def _account(self, _request: Request) -> str:
        """Return the account that a request is charged to: there is only one here."""
        return ""

    def _answer(self, request: Request) -> Sequence[Part]:
        lies = self._lies.get(request.run_id)
        if lies:
            lie = lies[min(self.asked[request.run_id], len(lies)) - 1]
        elif request.fault:
            date = format_datetime(self.now(), usegmt=True)
            lie = said(403, request.fault, date=date)
        else:
            lie = self._truth(request)
        answer = lie(request) if callable(lie) else lie
        return [answer] if isinstance(answer, bytes | str) else answer


async def _say(
    part: Part, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    if isinstance(part, bytes):
        await _write(part, reader, writer)
        if b"connection: close" in part:
            writer.close()
    elif isinstance(part, Drip):
        for at in range(len(part.data)):
            await _write(part.data[at : at + 1], reader, writer)
            await _pause(part.every_seconds, reader)
    elif isinstance(part, Wait):
        await _pause(part.seconds, reader)
    elif isinstance(part, asyncio.Event):
        await _hold(part, reader)
    elif part == HANG:
        await _pause(600.0, reader)
    elif part == CLOSE:
        writer.close()
    else:
        linger = struct.pack("ii", 1, 0)  # close() then sends RST
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()


async def _write(
    data: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    writer.write(data)
    await writer.drain()
    if reader.at_eof():
        raise ConnectionResetError


async def _pause(seconds: float, reader: asyncio.StreamReader) -> None:
    try:
        async with asyncio.timeout(seconds):
            if not await reader.read(1):
                raise ConnectionResetError
    except TimeoutError:
        pass


async def _hold(event: asyncio.Event, reader: asyncio.StreamReader) -> None:
    held = asyncio.create_task(event.wait())
    gone = asyncio.create_task(reader.read(1))
    try:
        await asyncio.wait((held, gone), return_when=asyncio.FIRST_COMPLETED)
        if gone.done():
            raise ConnectionResetError
    finally:
        held.cancel()
        gone.cancel()
        await asyncio.gather(held, gone, return_exceptions=True)
