"""Reports the gateway's state to systemd, if systemd has started it.

The protocol is that of sd_notify(3): datagrams to the socket that NOTIFY_SOCKET names.
A service manager that can't be reached is logged and never stops the gateway, and
neither do variables that aren't understood.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable, Mapping

import structlog

# A service manager that doesn't read must not stop the event loop.
_KIND = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK

LEAST_SECONDS = 1.0  # of a watchdog's period
MOST_SECONDS = 86_400.0  # of the period; reports come twice in it
_NUMBER = re.compile("[0-9]{1,20}")  # systemd's numbers have 64 bits

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
        self._watchdog_seconds = _watchdog_seconds(environ) if self._address else 0.0
        self._clock_us = clock_us
        self._is_stopping = False
        self._why = ""  # the last report couldn't be sent

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
            self._note(error.strerror or str(error))
        else:
            self._note("")

    def _note(self, why: str) -> None:
        """Log why a report couldn't be sent, and the first that could be again."""
        if why == self._why:
            return
        self._why = why
        if why:
            _log.warning("service_manager_unreachable", why=why)
        else:
            _log.info("service_manager_reached")


def _address(path: str) -> str:
    """Return the address of a Unix socket; an abstract one begins with @."""
    if path and not path.startswith(("/", "@")):
        why = "NOTIFY_SOCKET: only the path of a Unix socket, or @ and a name, is used"
        _log.warning("service_manager_unreachable", why=why)
        return ""
    return path.replace("@", "\0", 1) if path.startswith("@") else path


def _watchdog_seconds(environ: Mapping[str, str]) -> float:
    """Return the period of the unit's watchdog, 0 if this process has none."""
    period_us = environ.get("WATCHDOG_USEC", "")
    own = str(os.getpid())
    if not period_us or environ.get("WATCHDOG_PID", own) != own:
        return 0.0
    seconds = int(period_us) / 1e6 if _NUMBER.fullmatch(period_us) else 0.0
    if seconds < LEAST_SECONDS:
        why = f"WATCHDOG_USEC: it isn't a period of at least {LEAST_SECONDS:g} s"
        _log.warning("watchdog_not_fed", why=why)
        return 0.0
    return min(seconds, MOST_SECONDS)
