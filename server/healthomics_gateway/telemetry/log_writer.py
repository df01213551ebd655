"""Writes the lines of the log to a file descriptor, in a thread of its own."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from queue import SimpleQueue
from typing import TypeAlias

from healthomics_gateway.telemetry.log_lock import LogLock

AUDIT_BYTES = 8 * 1024 * 1024  # of lines of the audit log that wait to be written
OTHER_BYTES = 1024 * 1024  # of all other lines
PAUSE_SECONDS = 0.05  # between two batches: each switch between threads costs CPU
RETRY_SECONDS = (0.02, 1.0)  # after a write that failed: at first, and at most
STALL = timedelta(seconds=1)  # a write that takes longer is a fault


@dataclass(slots=True)
class _Budget:
    """The lines of one kind: how many wait, and how many were lost."""

    max_bytes: int
    held_bytes: int = 0
    held_lines: int = 0
    lost: int = 0
    reported: int = 0  # of the lost lines

    def takes(self, size: int) -> bool:
        """Count a line of `size` bytes as waiting, or as lost if it is too much."""
        if self.held_bytes + size > self.max_bytes:
            self.lost += 1
            return False
        self.held_bytes += size
        self.held_lines += 1
        return True


_Entry: TypeAlias = tuple[bytes, _Budget]


class LogWriter:
    """A bounded queue of lines, and the thread that writes them.

    `put` never waits and never fails. If the queue is full, the line is lost and
    counted, and the next line to be written reports the loss. A failed write is retried
    from where it stopped, so each line is complete.

    `logging.handlers.QueueListener` isn't used, as it takes one record at a time, has
    one bound for all records, and loses the rest of a line whose write fails.
    """

    def __init__(
        self,
        file: int,
        *,
        report: Callable[[int, int], str],
        audit_bytes: int = AUDIT_BYTES,
        other_bytes: int = OTHER_BYTES,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], None] = time.sleep,
        lock: LogLock | None = None,
    ) -> None:
        """Start the thread, which writes to the file descriptor `file`.

        `report` returns the line that reports a loss, from the number of lost lines and
        how many of them were of the audit log. `lock` is held for each write.
        """
        self._file = file
        self._render_report = report
        self._now = now
        self._sleep = sleep
        self._lock = lock
        self._audit = _Budget(audit_bytes)
        self._other = _Budget(other_bytes)
        # Reentrant, like SimpleQueue: a finalizer may log while `put` runs.
        self._changed = threading.Condition(threading.RLock())
        self._queue: SimpleQueue[_Entry] = SimpleQueue()
        self._left: _Entry | None = None  # taken, but too long for the last batch
        self._lost_since: datetime | None = None
        self._writing_since: datetime | None = None
        self._error = ""  # of the last write
        threading.Thread(target=self._run, name="log", daemon=True).start()

    def put(self, line: bytes, *, is_audit: bool = False) -> None:
        """Queue a line without its newline, or count it as lost if too many wait."""
        entry = (line + b"\n", self._audit if is_audit else self._other)
        with self._changed:
            if not entry[1].takes(len(entry[0])):
                self._lost_since = self._lost_since or self._now()
                return
        self._queue.put(entry)

    def flush(self, seconds: float) -> None:
        """Wait at most `seconds` until all lines are written."""
        with self._changed:
            self._changed.wait_for(lambda: not self._held_lines, seconds)

    def lost(self) -> tuple[int, int]:
        """Return the numbers of lost lines of the audit log, and of other lines."""
        with self._changed:
            return self._audit.lost, self._other.lost

    def fault(self) -> str:
        """Return which lines wait or were lost, or an empty string."""
        with self._changed:
            lost, of_audit = self._other.lost + self._audit.lost, self._audit.lost
            since, why, held = self._writing_since, self.stall(), self._held_lines
        if not (lost or why):
            return ""
        parts = [f"{lost} lines lost ({of_audit} of the audit)"]
        if self._lost_since:
            parts[0] += f" since {_text(self._lost_since)}"
        if since and why:
            parts.append(f"{held} lines wait since {_text(since)}: {why}")
        return "; ".join(parts)

    def stall(self) -> str:
        """Return why lines wait to be written, an empty string if none waits long."""
        since, error = self._writing_since, self._error
        if since and (error or self._now() - since > STALL):
            return error or "nothing reads them"
        return ""

    @property
    def _held_lines(self) -> int:
        return self._audit.held_lines + self._other.held_lines

    def _run(self) -> None:
        while True:
            batch = self._take()
            if report := self._report():
                self._write(report)
            self._write(b"".join(line for line, _ in batch))
            with self._changed:
                for line, budget in batch:
                    budget.held_bytes -= len(line)
                    budget.held_lines -= 1
                self._changed.notify_all()
            if self._left is None and self._queue.empty():
                self._sleep(PAUSE_SECONDS)  # so that the next batch has more lines

    def _take(self) -> list[_Entry]:
        """Wait for a line; return as many lines as one atomic write to a pipe takes.

        So processes that share a pipe don't write into each other's lines.
        """
        batch = [self._left or self._queue.get()]
        self._left, size = None, len(batch[0][0])
        while not self._queue.empty():
            entry = self._queue.get()
            size += len(entry[0])
            if size > select.PIPE_BUF:
                self._left = entry
                break
            batch.append(entry)
        return batch

    def _report(self) -> bytes:
        """Return the line that reports the losses since the last report, if any."""
        with self._changed:
            lost, of_audit = (
                each.lost - each.reported for each in (self._other, self._audit)
            )
            for each in (self._other, self._audit):
                each.reported = each.lost
        if not lost + of_audit:
            return b""
        return self._render_report(lost + of_audit, of_audit).encode() + b"\n"

    def _write(self, data: bytes) -> None:
        """Write all of `data`, however long that takes."""
        self._writing_since = self._now()
        with self._lock.held(len(data)) if self._lock else nullcontext():
            self._write_all(data)
        self._writing_since = None

    def _write_all(self, data: bytes) -> None:
        wait, longest = RETRY_SECONDS
        while data:
            try:
                data = data[os.write(self._file, data) :]
                self._error = ""
                wait = RETRY_SECONDS[0]
            except OSError as error:
                self._error = error.strerror or type(error).__name__
                self._sleep(wait)  # the cause may be temporary
                wait = min(2 * wait, longest)


def _text(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%SZ}"
