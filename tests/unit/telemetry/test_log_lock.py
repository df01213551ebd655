"""Processes that share a log don't write into each other's lines."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter

# Four processes write long and short lines to one pipe.
PROGRAM = """
import os, sys
from healthomics_gateway.telemetry.log_lock import LogLock
from healthomics_gateway.telemetry.log_writer import LogWriter

lock = LogLock()
for number in range(4):
    if not os.fork():
        writer = LogWriter(1, report=str, lock=lock)
        for at in range(50):
            writer.put(b'"%d%s"' % (number, b"%d" % number * (12_000 if at % 2 else 9)))
        writer.flush(30)
        os._exit(0)
for _ in range(4):
    os.wait()
"""


def test_lines_of_several_processes_are_whole() -> None:
    """Lines that are longer than an atomic write are whole too."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, check=True, timeout=50
    )
    lines = [json.loads(each) for each in done.stdout.splitlines()]

    assert {1} == {len(set(each)) for each in lines}
    assert {10: 100, 12_001: 100} == Counter(map(len, lines))


# A process is stopped while it writes a short line, and another one writes one too.
STOPPED = """
import os, signal
from healthomics_gateway.telemetry.log_lock import LogLock

lock = LogLock()
pid = os.fork()
if not pid:
    with lock.held(10):
        os.kill(os.getpid(), signal.SIGSTOP)
os.waitpid(pid, os.WUNTRACED)
signal.alarm(20)  # ends a process that waits
with lock.held(10):
    print("written")
os.kill(pid, signal.SIGKILL)
"""


def test_stopped_writer_of_a_short_line_delays_no_other_one() -> None:
    """A short write is atomic, so writers of short lines don't exclude each other."""
    done = subprocess.run(
        [sys.executable, "-c", STOPPED], capture_output=True, timeout=50, check=False
    )

    assert b"written\n" == done.stdout
