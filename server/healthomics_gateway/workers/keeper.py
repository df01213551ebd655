"""Keeps the workers of a supervisor alive: starts, watches and restarts them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from math import inf
from typing import Any

import structlog

from healthomics_gateway.app.aggregation.worker_reports import WorkerReports
from healthomics_gateway.app.shutdown import until
from healthomics_gateway.app.supervision import StateObserver
from healthomics_gateway.configuration_error import ConfigurationError
from healthomics_gateway.control import Handlers, Message
from healthomics_gateway.shared.memory import MemoryStore
from healthomics_gateway.shared.remote import ASK, DELIVER, StoreService
from healthomics_gateway.workers.child import Child
from healthomics_gateway.workers.children import Children
from healthomics_gateway.workers.pings import PING_SECONDS
from healthomics_gateway.workers.restarts import Restarts
from healthomics_gateway.workers.zygote_link import Exit, ZygoteLink

ENDED_EARLY = "has ended before it served"
NO_ZYGOTE = "the process that starts the workers has ended"

_log = structlog.get_logger("supervisor")


class StartError(Exception):
    """A worker has ended in its first start, without a fault of the settings."""


class Keeper:
    """Starts each worker, again and again, and answers what the workers send."""

    def __init__(
        self,
        link: ZygoteLink,
        children: Children,
        *,
        reports: WorkerReports,
        number: int,
        observer: StateObserver,
        content: bytes,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """Keep `number` workers in `children`; `reports` gets their starts and ends.

        `observer` gets the reloads, and `content` is that of the configuration file.
        """
        self._link = link
        self._children = children
        self._reports = reports
        self._number = number
        self._observer = observer
        self._content = content  # the newest that a worker uses
        self._read_at = -inf  # when a worker has read it
        self._clock = clock
        self._sleep = sleep
        self._memory = MemoryStore()
        self._stores: dict[Child, StoreService] = {}
        self._reloading: set[Child] = set()
        self._start: Mapping[str, Any] = {}
        # Done when all workers have served; raises ConfigurationError or StartError.
        self.started: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def open(self, start: Mapping[str, Any]) -> None:
        """Read the zygote's reports; each new worker gets `start`, a JSON value."""
        self._start = start
        self._link.open(forked=self._forked, ended=self._ended)

    async def keep(self, number: int) -> None:
        """Start the worker of this number, and again when it has ended, until a drain.

        In the first start its end is a failure of the gateway.
        """
        restarts = Restarts()
        while child := await self._fork(number):
            how = await self._end_of(child)
            self._forget(child)
            if self._children.is_draining:
                if how.code:  # not if it isn't known, without the zygote
                    _log_end(child, how)
                return
            if child.faults and not self.started.done():
                self.started.set_exception(ConfigurationError(*child.faults))
                return
            _log_end(child, how)
            if not self.started.done():
                fault = f"wasn't started: {how.why}" if how.why else ENDED_EARLY
                self.started.set_exception(StartError(f"worker {number} {fault}"))
                return
            served = self._clock() - child.serving_since if child.is_serving else 0.0
            await self._sleep(restarts.pause_seconds(served))  # back-off

    async def watch(self) -> None:
        """Ping the workers, and kill one whose event loop is blocked for too long."""
        while True:
            await self._sleep(PING_SECONDS)  # the workers' time to answer
            for each in self._children.running:
                if each.ping():
                    if not each.is_frozen:
                        _log.error("worker_frozen", worker=each.number, pid=each.pid)
                    each.is_frozen = True
                    self._link.kill(each.pid)

    def reload(self) -> None:
        """Let each worker reload the configuration file that isn't doing so."""
        for each in self._children.running:
            if each.is_serving and each not in self._reloading:
                self._begin_reload(each)
                each.control.note("reload")

    async def _fork(self, number: int) -> Child | None:
        """Start a worker and return it; None if the gateway ends."""
        child = Child(number)
        theirs = await child.open(self._handlers_of(child))
        with theirs:
            if self._children.is_draining:
                child.control.close()
                return None
            self._children.by_number[number] = child
            self._link.fork(number, theirs)
        return child

    async def _end_of(self, child: Child) -> Exit:
        """Return how a worker has ended; without the zygote that isn't known."""
        reported = asyncio.wait([child.ended])
        if not await until(self._link.closed, reported) and not child.ended.done():
            await child.control.closed.wait()
            self._ended(child.number, Exit(why="" if child.pid else NO_ZYGOTE))
        return await child.ended

    def _handlers_of(self, child: Child) -> Handlers:
        store = self._stores[child] = StoreService(self._memory)
        store.deliver_to(
            lambda name, value: child.control.note(DELIVER, Message(name, value))
        )
        return Handlers(
            notes={
                "pong": lambda _: child.answered(),
                "ready": lambda _: self._ready(child),
                "reloading": lambda _: self._begin_reload(child),
                "uses": lambda message: self._use(child, message),
                "faults": lambda message: child.faults.extend(message.data),
            },
            answers={"join": partial(self._join, child), ASK: store.answer},
        )

    async def _join(self, child: Child, _message: Message) -> Message:
        child.content = self._content
        return Message(self._start, self._content)

    def _ready(self, child: Child) -> None:
        if child.is_serving:
            self._end_reload(child)
            return
        child.note_serving(self._clock())
        _log.info("worker_started", worker=child.number, pid=child.pid)
        if child.content != self._content:
            child.control.note("reload")
        number = sum(each.is_serving for each in self._children.running)
        if number == self._number and not self.started.done():
            self.started.set_result(None)

    def _begin_reload(self, child: Child) -> None:
        if not self._reloading:
            self._observer.reloading()
        self._reloading.add(child)

    def _end_reload(self, child: Child) -> None:
        if child in self._reloading:
            self._reloading.discard(child)
            if not self._reloading:
                self._observer.ready()

    def _use(self, child: Child, message: Message) -> None:
        """Note the content that a worker uses; let the others reload it at once.

        If another worker has read a newer one meanwhile, let this one reload.
        """
        content, read_at = message.payload, message.data
        child.content = content
        if read_at < self._read_at:
            if content != self._content:
                child.control.note("reload")
            return
        self._read_at = read_at
        if content != self._content:
            self._content = content
            self.reload()

    def _forget(self, child: Child) -> None:
        self._end_reload(child)
        self._stores.pop(child).close()

    def _forked(self, number: int, pid: int) -> None:
        self._children.by_number[number].pid = pid
        self._reports.started(number, pid)

    def _ended(self, number: int, how: Exit) -> None:
        child = self._children.by_number[number]
        child.end(how)
        if how.why:
            self._reports.not_started(number, how.why)
        else:
            self._reports.ended(number, ": ".join((how.text, *child.faults[:1])))


def _log_end(child: Child, how: Exit) -> None:
    why: dict[str, Any] = {"faults": child.faults} if child.faults else {}
    if how.why:
        _log.error("worker_not_started", worker=child.number, why=how.why)
        return
    if how.signal_name:
        why["signal"] = how.signal_name
    elif how.code is not None:
        why["exit_code"] = how.code
    _log.warning("worker_ended", worker=child.number, pid=child.pid, **why)
