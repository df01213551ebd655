"""The supervisor's end of the connection to the zygote."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog

from healthomics_gateway.workers.pings import PING_SECONDS, Pings

MAX_MESSAGE = 4096  # bytes

_log = structlog.get_logger("supervisor")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How a worker has ended."""

    code: int | None = None  # negative for a signal; None if it isn't known
    why: str = ""  # no process was started for it; empty if one was

    @property
    def signal_name(self) -> str:
        """The name of the signal that has ended it; an empty text if none has."""
        number = -(self.code or 0)
        if number <= 0:
            return ""
        known = {each.value: each.name for each in signal.Signals}
        return known.get(number, f"signal {number}")

    @property
    def text(self) -> str:
        """How its process has ended: `ended by SIGKILL`, `exited with 70`."""
        if self.code is None:
            return "ended"
        if self.code < 0:
            return f"ended by {self.signal_name}"
        return f"exited with {self.code}"


class ZygoteLink:
    """Sends orders to the zygote, and reads its reports."""

    def __init__(self, link: socket.socket, pid: int) -> None:
        """Use the connected socket `link`; the zygote has this process id."""
        self._pid = pid
        self._link = link
        link.settimeout(0)
        self.closed = asyncio.Event()  # the zygote has ended
        self._pings = Pings()
        # Orders that the full socket hasn't taken yet, with the socket of a fork. Each
        # is there once, so they are few: a frozen worker is killed again each second.
        self._unsent: dict[bytes, socket.socket | None] = {}
        self._numbers: dict[int, int] = {}  # of workers, by process id
        self._forked: Callable[[int, int], None] = lambda _number, _pid: None
        self._ended: Callable[[int, Exit], None] = lambda _number, _exit: None

    def open(
        self,
        *,
        forked: Callable[[int, int], None],
        ended: Callable[[int, Exit], None],
    ) -> None:
        """Read its reports in the running event loop.

        `forked` gets the number and the process id of a new worker, and `ended` the
        number of one that has ended, and how.
        """
        self._forked, self._ended = forked, ended
        asyncio.get_running_loop().add_reader(self._link, self._read)

    def close(self) -> None:
        """Close the connection: the zygote ends when all workers have ended."""
        asyncio.get_running_loop().remove_reader(self._link)
        self._drop_unsent()
        self._link.close()

    def fork(self, number: int, control: socket.socket) -> None:
        """Ask for a worker, which gets the socket `control`."""
        self._send({"fork": number}, control)

    def kill(self, pid: int) -> None:
        """Kill a worker, unless it has ended.

        The zygote, its parent, can't kill another process that has got the same id.
        Without it that could happen only at the moment when the worker ends.
        """
        if not self.closed.is_set():
            self._send({"kill": pid})
        elif pid in self._numbers:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    async def watch(
        self, *, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    ) -> None:
        """Ping the zygote until it has ended; kill it if it is blocked for too long."""
        while not self.closed.is_set():
            self._send({"ping": True})
            if self._pings.sent():
                _log.error("zygote_frozen", pid=self._pid)
                # No one waits for this child, so its id isn't used again.
                os.kill(self._pid, signal.SIGKILL)
                await self.closed.wait()
            await sleep(PING_SECONDS)  # the zygote's time to answer

    def end_within(self, seconds: float) -> None:
        """Kill the workers that are left after this time; the earliest one holds."""
        self._send({"end": seconds})

    def _send(
        self, order: Mapping[str, Any], control: socket.socket | None = None
    ) -> None:
        data = json.dumps(order).encode()
        if data in self._unsent or (not self._unsent and self._sends(data, control)):
            return
        self._unsent[data] = control.dup() if control else None
        asyncio.get_running_loop().add_writer(self._link, self._send_unsent)

    def _send_unsent(self) -> None:
        """Send the orders that wait, until the socket is full again."""
        for data, control in tuple(self._unsent.items()):
            if not self._sends(data, control):
                return
            del self._unsent[data]
            if control:
                control.close()
        asyncio.get_running_loop().remove_writer(self._link)

    def _sends(self, data: bytes, control: socket.socket | None) -> bool:
        """Send an order; return False if the socket is full."""
        try:
            socket.send_fds(self._link, [data], [control.fileno()] if control else [])
        except BlockingIOError:
            return False
        except OSError:  # it has ended; `closed` says so
            pass
        return True

    def _drop_unsent(self) -> None:
        asyncio.get_running_loop().remove_writer(self._link)
        for control in self._unsent.values():
            if control:
                control.close()
        self._unsent.clear()

    def _read(self) -> None:
        for event in self._events():
            if "pong" in event:
                self._pings.answered()
                continue
            pid = event["pid"]
            if "number" in event and pid:
                self._numbers[pid] = event["number"]
                self._forked(event["number"], pid)
            elif "number" in event:
                self._ended(event["number"], Exit(why=event["why"]))
            else:
                self._ended(self._numbers.pop(pid), Exit(code=event["code"]))

    def _events(self) -> Iterator[Mapping[str, Any]]:
        while True:
            try:
                data = self._link.recv(MAX_MESSAGE)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                asyncio.get_running_loop().remove_reader(self._link)
                self._drop_unsent()
                self.closed.set()
                return
            yield json.loads(data)
