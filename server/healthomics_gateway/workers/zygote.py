"""The zygote: a process without threads, which forks the workers.

The supervisor has threads and an event loop, so it can't fork. The zygote is forked
before these are started, when all modules but gRPC are loaded, so that the workers
share their memory. gRPC isn't loaded because its threads don't survive a fork.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Any

from healthomics_gateway.app.signals import ENDING
from healthomics_gateway.configuration_error import ConfigurationError
from healthomics_gateway.workers.zygote_link import MAX_MESSAGE, ZygoteLink

OF_SYSTEMD = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC")  # the supervisor's


@dataclass(frozen=True, slots=True)
class Forked:
    """What a new worker has: its number, and its end of the connection."""

    number: int
    control: socket.socket


def start_zygote(
    *, end_seconds: float, fork: Callable[[], int] = os.fork
) -> ZygoteLink | Forked:
    """Fork the zygote, and return its link; in each worker, return what it has.

    If this process ends, the zygote kills the workers that haven't ended `end_seconds`
    later. `fork` forks the zygote and the workers. Raises ConfigurationError if the
    system starts no process.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # The collector would write to the memory of all objects, and so copy it.
    gc.collect()
    gc.freeze()
    try:
        pid = fork()
    except OSError as error:
        ours.close()
        theirs.close()
        raise ConfigurationError(
            f"workers: the system starts no process ({error.strerror}); raise its limit"
            " on processes or memory"
        ) from None
    if pid:
        theirs.close()
        return ZygoteLink(ours, pid)
    ours.close()
    forked = _Zygote(theirs, end_seconds=end_seconds, fork=fork).run()
    if forked is None:
        os._exit(0)
    return forked


class _Zygote:
    """Forks a worker for each request, and reports each that has ended."""

    def __init__(
        self, link: socket.socket, *, end_seconds: float, fork: Callable[[], int]
    ) -> None:
        self._link = link
        self._fork_process = fork
        self._end_seconds = end_seconds
        self._end = inf  # time at which the workers are killed
        self._is_orphaned = False
        self._workers: set[int] = set()  # by their process ids

    def run(self) -> Forked | None:
        """Return in each worker, and when the supervisor and all workers have ended."""
        os.setpgid(0, 0)  # so that a terminal's Ctrl-C reaches only the supervisor
        # After `stty tostop` a terminal stops other groups that write to it: the log.
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        for name in OF_SYSTEMD:
            os.environ.pop(name, None)
        before = {each: signal.getsignal(each) for each in ENDING}
        for each in ENDING:
            signal.signal(each, signal.SIG_IGN)
        woken, waker = socket.socketpair()
        woken.settimeout(0)
        waker.settimeout(0)
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _do_nothing)
        forked = self._run(woken)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number, handler in before.items():
            signal.signal(number, handler)
        for sock in (woken, waker, self._link):
            sock.close()
        return forked

    def _run(self, woken: socket.socket) -> Forked | None:
        polled = select.poll()
        polled.register(woken, select.POLLIN)
        polled.register(self._link, select.POLLIN)
        while self._workers or not self._is_orphaned:
            left = self._end - time.monotonic()
            if left <= 0:
                self._kill(*self._workers)
                self._end, left = inf, inf
            ready = dict(polled.poll(None if left == inf else 1000 * left + 1))
            if woken.fileno() in ready:
                woken.recv(MAX_MESSAGE)
                self._reap()
            if self._link.fileno() in ready:
                data, files = self._receive()
                if not data:
                    polled.unregister(self._link)
                    self._is_orphaned = True
                    self._end_within(self._end_seconds)
                elif forked := self._obey(json.loads(data), files):
                    return forked
        return None

    def _receive(self) -> tuple[bytes, list[int]]:
        """Return an order, and its files; none if the supervisor has ended."""
        try:
            data, files, *_ = socket.recv_fds(
                self._link, MAX_MESSAGE, 1, socket.MSG_CMSG_CLOEXEC
            )
        except OSError:  # it has ended without having read all reports
            return b"", []
        return data, files

    def _obey(self, order: Mapping[str, Any], files: list[int]) -> Forked | None:
        if "fork" in order:
            return self._fork(order["fork"], socket.socket(fileno=files[0]))
        if "kill" in order:
            self._kill(order["kill"])
        elif "ping" in order:
            self._report(pong=True)
        else:
            self._end_within(order["end"])
        return None

    def _fork(self, number: int, control: socket.socket) -> Forked | None:
        try:
            pid = self._fork_process()
        except OSError as error:
            control.close()
            self._report(number=number, pid=0, why=error.strerror)
            return None
        if not pid:
            return Forked(number, control)
        control.close()
        self._workers.add(pid)
        self._report(number=number, pid=pid)
        return None

    def _kill(self, *pids: int) -> None:
        for pid in self._workers.intersection(pids):
            os.kill(pid, signal.SIGKILL)

    def _end_within(self, seconds: float) -> None:
        self._end = min(self._end, time.monotonic() + seconds)

    def _reap(self) -> None:
        while self._workers:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            self._workers.discard(pid)
            self._report(pid=pid, code=os.waitstatus_to_exitcode(status))

    def _report(self, **event: Any) -> None:
        if not self._is_orphaned:
            try:
                self._link.send(json.dumps(event).encode())
            except OSError:  # the supervisor has ended, which is noticed next
                return


def _do_nothing(*_args: object) -> None:
    """Handle SIGCHLD, so that it wakes the zygote."""
