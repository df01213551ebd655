"""What starts and watches a gateway: systemd, or the supervisor of workers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from healthomics_gateway.shared.store import Store
from healthomics_gateway.telemetry.log_lock import LogLock

if TYPE_CHECKING:  # the supervisor doesn't load gRPC
    from healthomics_gateway.app.gateway import Gateway
    from healthomics_gateway.app.shutdown import Signals


class StateObserver(Protocol):
    """Gets the reports of a gateway about its state."""

    def ready(self) -> None:
        """Note that the gateway serves, after its start or after a reload."""
        ...

    def reloading(self) -> None:
        """Note that a reload begins."""
        ...

    def stopping(self) -> None:
        """Note that the drain begins."""
        ...

    def feed_watchdog(self, call_later: Callable[..., object]) -> None:
        """Note from now on, by `call_later`, that the event loop runs."""
        ...


class SupervisorLink(StateObserver, Protocol):
    """The way to the supervisor of a gateway that is one of several workers."""

    number: int  # of the worker, from 0
    log_lock: LogLock  # of the log that all workers write
    store: Store  # that the workers share if the settings name no other
    secret: bytes  # that authenticates the values there

    def attach(self, gateway: Gateway, signals: Signals) -> None:
        """Get the gateway, before it starts, and what ends it."""
        ...

    def uses(self, content: bytes, read_at: float) -> None:
        """Note that a content of the configuration file is in effect.

        It was read at this time of `time.monotonic`.
        """
        ...
