"""Serves as one of several workers, under the orders of a supervisor."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import structlog

from healthomics_gateway.app.signals import ENDED
from healthomics_gateway.configuration_error import ConfigurationError
from healthomics_gateway.control import Control, ControlError, Handlers, Message
from healthomics_gateway.shared.remote import DELIVER, RemoteStore
from healthomics_gateway.shared.store import Store
from healthomics_gateway.workers.ports import Ports
from healthomics_gateway.workers.program import Program
from healthomics_gateway.workers.zygote import Forked

if TYPE_CHECKING:  # gRPC is imported only after the fork
    from healthomics_gateway.app.gateway import Gateway
    from healthomics_gateway.app.parts import Parts
    from healthomics_gateway.app.shutdown import Signals

JOIN_SECONDS = 30.0  # for the supervisor's answer
MISUSED = 2  # exit code: the settings are invalid, or an address can't be bound

_Order: TypeAlias = Callable[["Gateway", "Signals"], None]
_log = structlog.get_logger("worker")


class Reporting(Protocol):
    """Makes what the supervisor's pages show of a gateway, as a JSON object."""

    def report(self) -> Awaitable[Mapping[str, Any]]:
        """Return the state of the gateway."""
        ...


async def serve_worker(forked: Forked, program: Program) -> int:
    """Serve until the supervisor or a signal ends it; return the exit code.

    A fault of the start is reported to the supervisor.
    """
    from healthomics_gateway.app.aggregation.reporter import Reporter  # noqa: PLC0415  # gRPC is loaded only after the fork
    from healthomics_gateway.app.process import serve  # noqa: PLC0415  # gRPC is loaded only after the fork

    link = WorkerLink(forked.number, program, make_reporter=Reporter)
    await link.open(forked)
    try:
        start = await link.control.ask("join", seconds=JOIN_SECONDS)
        program = program.with_ports(Ports(**start.data["ports"]))
        program = program.with_content(start.payload)
        aws = program.aws(start.data["sandbox"])
        await serve(program.settings, aws, config=program.config, supervisor=link)
    except ControlError:
        return ENDED  # the supervisor has ended
    except ConfigurationError as error:
        link.control.note("faults", Message(list(error.args)))
        return MISUSED
    return ENDED


class WorkerLink:
    """A worker's end of the connection: reports to the supervisor, and obeys it."""

    def __init__(
        self,
        number: int,
        program: Program,
        *,
        make_reporter: Callable[[Parts], Reporting],
    ) -> None:
        """Create it, without a gateway yet."""
        self.number = number
        self.log_lock = program.log_lock
        self.secret = program.secret
        self.store: Store = (store := RemoteStore(self._ask))
        self._make_reporter = make_reporter
        self._reporter: Reporting | None = None
        self._gateway: Gateway | None = None
        self._signals: Signals | None = None
        self._early: list[_Order] = []  # orders that have come before the gateway
        self.control = Control(
            Handlers(
                notes={
                    DELIVER: store.delivered,
                    "ping": lambda _: self.control.note("pong"),
                    "reload": lambda _: self._obey(lambda _, s: s.reload.set()),
                    "unready": lambda _: self._obey(lambda g, _: g.become_unready()),
                    "drain": self._drain,
                    "end": lambda _: self._obey(lambda _, s: s.end()),
                    "end_now": lambda _: self._obey(lambda _, s: s.force()),
                },
                answers={"report": self._report},
            )
        )

    async def open(self, forked: Forked) -> None:
        """Connect to the supervisor; when it has ended, drain."""
        reading = await self.control.open(forked.control)
        reading.add_done_callback(self._lose)

    def _lose(self, reading: asyncio.Task[None]) -> None:
        # Cancelled: this process ends. Without a gateway, the log isn't set up yet.
        if self._gateway and not reading.cancelled():
            _log.error("supervisor_ended")
        self._obey(lambda _, signals: signals.drain(signals.drain_seconds))

    def attach(self, gateway: Gateway, signals: Signals) -> None:
        """Get the gateway, and what ends it; do what has been ordered so far."""
        self._gateway, self._signals = gateway, signals
        self._reporter = self._make_reporter(gateway.parts)
        early, self._early = self._early, []
        for order in early:
            order(gateway, signals)

    def ready(self) -> None:
        """Report that the gateway serves, after its start or after a reload."""
        self.control.note("ready")

    def reloading(self) -> None:
        """Report that a reload begins."""
        self.control.note("reloading")

    def stopping(self) -> None:
        """Do nothing: the next report says that the gateway drains."""

    def feed_watchdog(self, call_later: Callable[..., object]) -> None:
        """Do nothing: the supervisor asks whether the event loop runs."""

    def uses(self, content: bytes, read_at: float) -> None:
        """Report the content of the configuration file that is in effect."""
        self.control.note("uses", Message(read_at, content))

    def _obey(self, order: _Order) -> None:
        if self._gateway and self._signals:
            order(self._gateway, self._signals)
        else:
            self._early.append(order)

    def _drain(self, message: Message) -> None:
        self._obey(lambda _, signals: signals.drain(message.data))

    async def _ask(self, name: str, message: Message, *, seconds: float) -> Message:
        return await self.control.ask(name, message, seconds=seconds)

    async def _report(self, _message: Message) -> Message:
        if self._reporter is None:
            raise ControlError("it doesn't serve yet")
        return Message(await self._reporter.report())
