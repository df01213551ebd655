"""The supervisor's end of the connection to the zygote."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

MAX_MESSAGE = 4096  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How a worker has ended."""

    code: int | None = None  # negative for a signal; None if it isn't known
    why: str = ""  # it couldn't be forked

    @property
    def signal(self) -> str:
        """The name of the signal that has ended it; an empty text if none has."""
        number = -(self.code or 0)
        if number <= 0:
            return ""
        known = {each.value: each.name for each in signal.Signals}
        return known.get(number, f"signal {number}")

    @property
    def text(self) -> str:
        """How it has ended: `ended by SIGKILL`, `exited with 70`."""
        if self.code is None:
            return self.why or "ended"
        if self.code < 0:
            return f"ended by {self.signal}"
        return f"exited with {self.code}"


class ZygoteLink:
    """Sends orders to the zygote, and reads its reports."""

    def __init__(self, link: socket.socket) -> None:
        """Use the connected socket `link`."""
        self._link = link
        link.settimeout(0)
        self.closed = asyncio.Event()  # the zygote has ended
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
        self._link.close()

    def fork(self, number: int, control: socket.socket) -> None:
        """Ask for a worker, which gets the socket `control`."""
        self._send({"fork": number}, control.fileno())

    def kill(self, pid: int) -> None:
        """Kill a worker, unless it has ended."""
        self._send({"kill": pid})

    def end_within(self, seconds: float) -> None:
        """Kill the workers that are left after this time; the earliest one holds."""
        self._send({"end": seconds})

    def _send(self, order: Mapping[str, Any], *files: int) -> None:
        try:
            socket.send_fds(self._link, [json.dumps(order).encode()], files)
        except OSError:  # it has ended; `closed` says so
            return

    def _read(self) -> None:
        for event in self._events():
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
                self.closed.set()
                return
            yield json.loads(data)
