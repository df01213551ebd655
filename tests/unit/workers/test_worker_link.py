"""A worker's connection to its supervisor."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from healthomics_gateway.app.reload import ConfigFile
from healthomics_gateway.app.signals import ENDED
from healthomics_gateway.configuration_error import ConfigurationError
from healthomics_gateway.control import Control, ControlError, Handlers, Message
from healthomics_gateway.net.addresses import Address
from healthomics_gateway.services.readiness import Readiness
from healthomics_gateway.settings.schema import Settings
from healthomics_gateway.shared.memory import MemoryStore
from healthomics_gateway.shared.remote import ASK, StoreService
from healthomics_gateway.telemetry.log_lock import LogLock
from healthomics_gateway.workers.ports import Ports
from healthomics_gateway.workers.program import Program
from healthomics_gateway.workers.worker_link import MISUSED, WorkerLink, serve_worker
from healthomics_gateway.workers.zygote import Forked

PORTS = {"admin": 1, "listeners": [2]}
MAX_SECONDS = 20.0  # that nothing needs


class Gateway:
    """A gateway without calls."""

    def __init__(self) -> None:
        """Begin unready, without credentials."""
        self.parts = self  # those that a worker uses
        self.readiness = Readiness(call_later=lambda _seconds, _call: None)

    def become_unready(self) -> None:
        """Begin the shutdown."""
        self.readiness.drain()


class Reporter:
    """Reports the readiness of a gateway."""

    def __init__(self, parts: Gateway) -> None:
        """Report that of `parts`."""
        self._readiness = parts.readiness

    async def report(self) -> Mapping[str, Any]:
        """Return why the gateway isn't ready."""
        return {"why_not": self._readiness.why_not}


class Signals:
    """Notes what is ordered."""

    def __init__(self) -> None:
        """Begin without orders."""
        self.drain_seconds = 25.0
        self.reload = asyncio.Event()
        self.orders: asyncio.Queue[Any] = asyncio.Queue()

    def drain(self, seconds: float) -> None:
        """Note a drain."""
        self.orders.put_nowait(seconds)

    def end(self) -> None:
        """Note the end of the drain."""
        self.orders.put_nowait("end")

    def force(self) -> None:
        """Note the end by force."""
        self.orders.put_nowait("force")


class Rig:
    """A worker and its supervisor's end."""

    def __init__(self, answer: Message | None = None) -> None:
        """Note what the worker reports; `answer` is that to its first request.

        Without one, the connection is closed instead.
        """
        ours, theirs = socket.socketpair()
        self._ours = ours
        self._answer = answer
        self.forked = Forked(3, theirs)
        self.notes: asyncio.Queue[tuple[str, Message]] = asyncio.Queue()
        store = StoreService(MemoryStore())
        names = ("pong", "ready", "reloading", "uses", "faults")
        notes = {
            name: lambda message, name=name: self.notes.put_nowait((name, message))
            for name in names
        }
        answers = {"join": self._join, ASK: store.answer}
        self.control = Control(Handlers(notes=notes, answers=answers))

    async def _join(self, _message: Message) -> Message:
        if self._answer is None:
            self.control.close()
            raise ControlError("the supervisor has ended")
        return self._answer

    async def open(self) -> None:
        """Connect."""
        await self.control.open(self._ours)


async def worker_of(rig: Rig) -> WorkerLink:
    """Return a worker that is connected."""
    worker = WorkerLink(3, program(), make_reporter=Reporter)
    await rig.open()
    await worker.open(rig.forked)
    return worker


async def test_orders_reach_the_gateway_in_order() -> None:
    """Those that come before the gateway are kept; the end of all is one of them."""
    rig, signals, gateway = Rig(), Signals(), Gateway()
    worker = await worker_of(rig)
    rig.control.note("drain", Message(12.5))
    with pytest.raises(ControlError, match="it doesn't serve yet"):
        await rig.control.ask("report", seconds=MAX_SECONDS)
    parts: Any = gateway, signals
    worker.attach(*parts)
    for name in ("unready", "end", "end_now", "reload", "ping"):
        rig.control.note(name)
    assert [12.5, "end", "force"] == [await signals.orders.get() for _ in range(3)]
    assert ("pong", Message()) == await rig.notes.get()
    assert signals.reload.is_set()
    assert gateway.readiness.is_draining
    report = await rig.control.ask("report", seconds=MAX_SECONDS)
    assert {"why_not": "GATEWAY_DRAINING"} == report.data
    with capture_logs() as logs:
        rig.control.close()
        assert 25.0 == await signals.orders.get()

    assert ["supervisor_ended"] == [each["event"] for each in logs]


async def test_supervisor_gets_the_states_of_the_gateway() -> None:
    """The start, reloads and the content that is in effect are reported."""
    rig = Rig()
    worker = await worker_of(rig)
    worker.feed_watchdog(lambda *_: None)
    worker.ready()
    worker.reloading()
    worker.uses(b"content", 7.5)
    worker.ready()
    worker.stopping()
    assert [
        ("ready", Message()),
        ("reloading", Message()),
        ("uses", Message(7.5, b"content")),
        ("ready", Message()),
    ] == [await rig.notes.get() for _ in range(4)]
    assert None is await worker.store.read("run", "state")
    worker.control.close()


def program(load: Any = None) -> Program:
    """Return the program of a gateway with a file; `load` reads its settings."""
    return Program(
        settings=Settings(listen=Address("127.0.0.1", 0)),
        config=ConfigFile(Path("gateway.toml"), b"first", load),
        aws=lambda _: pytest.fail("it must not start"),
        log_lock=LogLock(),
        secret=b"secret",
    )


async def test_fault_of_the_start_is_reported() -> None:
    """The worker doesn't serve with older rules than the others."""

    def load(_content: bytes) -> Settings:
        raise ConfigurationError("callers: no")

    rig = Rig(Message({"ports": PORTS, "sandbox": ""}, b"second"))
    await rig.open()

    assert MISUSED == await serve_worker(rig.forked, program(load))
    assert ("faults", Message(["callers: no"])) == await rig.notes.get()
    rig.control.close()


async def test_worker_ends_if_the_supervisor_has_ended() -> None:
    """It never serves, and logs nothing, as its log isn't set up yet."""
    rig = Rig()
    await rig.open()
    with capture_logs() as logs:
        assert ENDED == await serve_worker(rig.forked, program())
        await asyncio.sleep(0)  # until it has handled the end of the connection

    assert [] == logs


def test_content_changes_only_what_a_reload_changes() -> None:
    """Other settings stay as the other workers have them, and so do the ports."""

    def load(content: bytes) -> Settings:
        return Settings(
            listen=Address("127.0.0.1", 0),
            drain_time=content.decode(),
            withhold=frozenset({"name"}),
        )

    real = program(load).with_ports(Ports(**PORTS))
    assert real is real.with_content(b"first")
    newer = real.with_content(b"1s")

    assert newer.config
    assert b"1s" == newer.config.content
    assert Address("127.0.0.1", 2) == newer.settings.listen
    assert Address("127.0.0.1", 2) == newer.config.load(b"1s").listen
    assert frozenset({"name"}) == newer.settings.withhold
    assert real.settings.drain_time == newer.settings.drain_time
