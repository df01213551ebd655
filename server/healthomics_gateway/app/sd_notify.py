"""Reports the gateway's state to systemd, if systemd has started it.

The protocol is that of sd_notify(3): datagrams to the socket that NOTIFY_SOCKET names.
A service manager that can't be reached is logged and never stops the gateway.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping

import structlog

# A service manager that doesn't read must not stop the event loop.
_KIND = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK

_log = structlog.get_logger("systemd")


class ServiceManager:
    """The service manager that has started this process, if any."""

    def __init__(
        self,
        environ: Mapping[str, str],
        *,
        clock_us: Callable[[], int] = lambda: time.monotonic_ns() // 1000,
    ) -> None:
        """Read the address of its socket; without one, nothing is ever sent."""
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self._watchdog_seconds = _watchdog_seconds(environ)
        self._clock_us = clock_us
        self._is_stopping = False

    def ready(self) -> None:
        """Report that the gateway serves, after its start or after a reload.

        After `stopping` do nothing: the last state that systemd receives holds.
        """
        if not self._is_stopping:
            self._send("READY=1")

    def reloading(self) -> None:
        """Report that a reload begins. When it has ended, well or not, call `ready`.

        After `stopping` do nothing.
        """
        if not self._is_stopping:
            self._send("RELOADING=1", f"MONOTONIC_USEC={self._clock_us()}")

    def stopping(self) -> None:
        """Report that the drain begins."""
        self._is_stopping = True
        self._send("STOPPING=1")

    def feed_watchdog(self, call_later: Callable[..., object]) -> None:
        """Report now, and twice in each period of WatchdogSec=, that this code runs.

        `call_later` is that of the event loop: a blocked loop doesn't report. If the
        unit has no watchdog, do nothing.
        """
        if self._watchdog_seconds:
            self._send("WATCHDOG=1")
            call_later(self._watchdog_seconds / 2, self.feed_watchdog, call_later)

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, _KIND) as sender:
                sender.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            _log.warning("service_manager_unreachable", why=error.strerror)


def _address(path: str) -> str:
    """Return the address of a socket; an abstract one begins with @, or with NUL."""
    return path.replace("@", "\0", 1) if path.startswith("@") else path


def _watchdog_seconds(environ: Mapping[str, str]) -> float:
    """Return the period of the unit's watchdog, 0 if this process has none."""
    period_us = environ.get("WATCHDOG_USEC", "")
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    return int(period_us) / 1e6 if period_us.isdecimal() else 0.0
