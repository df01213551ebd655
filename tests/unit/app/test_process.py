"""What the process of a gateway sets for itself."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

# Prints how many arenas glibc has when each of four threads has allocated memory.
ARENAS = """
import ctypes, sys, threading
from healthomics_gateway.app.process import share_memory_arena

libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
if "shared" in sys.argv:
    share_memory_arena()
barrier = threading.Barrier(5)

def allocate():
    libc.malloc(1000)
    barrier.wait(5)
    barrier.wait(5)

for _ in range(4):
    threading.Thread(target=allocate).start()
barrier.wait(5)
file = ctypes.c_void_p(libc.fdopen(1, b"w"))
libc.malloc_info(0, file)
libc.fflush(file)
barrier.wait(5)
"""


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "malloc_info"), reason="only glibc has arenas"
)
def test_threads_share_one_arena() -> None:
    """The memory of a flood can be used again by every thread."""
    alone, shared = (
        subprocess.run(
            [sys.executable, "-c", ARENAS, *arguments],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.count("<heap nr=")
        for arguments in ((), ("shared",))
    )

    assert alone > 1
    assert 1 == shared
