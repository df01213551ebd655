"""Fake worker processes and a fake zygote: objects of the test's process."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from typing import Any

from healthomics_gateway.control import Control, Handlers, Message
from healthomics_gateway.shared.remote import DELIVER, RemoteStore
from healthomics_gateway.workers.zygote_link import Exit


class Process:
    """A fake worker process: the test says what it does."""

    def __init__(self, number: int, pid: int) -> None:
        """Answer pings, and note what is ordered."""
        self.number = number
        self.pid = pid
        self.is_frozen = False
        self.orders: Counter[str] = Counter()
        self.store = RemoteStore(self._ask)
        notes = {
            name: lambda _, name=name: self.orders.update([name])
            for name in ("reload", "unready", "drain", "end", "end_now")
        }
        self.control = Control(
            Handlers(
                notes={
                    **notes,
                    "ping": self._pong,
                    DELIVER: self.store.delivered,
                },
                answers={"report": self._report},
            )
        )

    def _pong(self, _message: Message) -> None:
        if not self.is_frozen:
            self.control.note("pong")

    async def _report(self, _message: Message) -> Message:
        if self.is_frozen:
            await asyncio.Event().wait()
        return Message({"why_not": ""})

    async def _ask(self, name: str, message: Message, *, seconds: float) -> Message:
        return await self.control.ask(name, message, seconds=seconds)

    async def serve(self) -> Message:
        """Start as a worker does; return what the supervisor has sent."""
        start = await self.control.ask("join", seconds=1)
        self.control.note("ready")
        await self.settle()
        return start

    async def settle(self) -> None:
        """Wait until the supervisor has handled all notes."""
        await self.control.ask("store", Message(["leave", {"replica": ""}]), seconds=1)


class Zygote:
    """A link to a fake zygote, whose workers are fake processes."""

    def __init__(self) -> None:
        """Begin without workers."""
        self.processes: asyncio.Queue[Process] = asyncio.Queue()
        self.killed: list[int] = []
        self.ends: list[float] = []  # times after which workers are killed
        self.closed = asyncio.Event()
        self.fault = ""
        self._pids = 100
        self._processes: list[Process] = []  # they live, also if a test drops them
        self._forked: Any = None
        self.ended: Any = None

    def open(self, *, forked: Any, ended: Any) -> None:
        """Note whom to report to."""
        self._forked, self.ended = forked, ended

    def fork(self, number: int, control: socket.socket) -> None:
        """Start a fake process."""
        if self.closed.is_set():
            return
        loop = asyncio.get_running_loop()
        if self.fault:
            loop.call_soon(self.ended, number, Exit(why=self.fault))
            return
        self._pids += 1
        process = Process(number, self._pids)
        loop.create_task(self._start(process, control.dup()))  # noqa: RUF006  # it ends at once

    async def _start(self, process: Process, control: socket.socket) -> None:
        self._processes.append(process)
        await process.control.open(control)
        self._forked(process.number, process.pid)
        self.processes.put_nowait(process)

    def kill(self, pid: int) -> None:
        """Note that a process is killed."""
        self.killed.append(pid)

    async def watch(self) -> None:
        """Never find it frozen."""
        await self.closed.wait()

    def end_within(self, seconds: float) -> None:
        """Note when the workers are killed that are left."""
        self.ends.append(seconds)
