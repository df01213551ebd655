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
