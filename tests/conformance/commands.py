"""Runs the commands that build, generate and try the clients."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from testkit.authorities import HOST

SECONDS = 1200.0  # for a build with empty caches
ENVIRONMENT = os.environ | {
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # buf is there
    # The C core would use a proxy for a loopback address too, and log bad handshakes.
    "no_grpc_proxy": HOST,
    "GRPC_VERBOSITY": "NONE",
}

Command = tuple[str | Path, ...]


class FailedError(Exception):
    """A command failed; the message says which, and has its output."""


async def run_command(
    command: Sequence[str | Path],
    *,
    cwd: Path,
    seconds: float = SECONDS,
    **environment: str,
) -> tuple[int, str]:
    """Run a command; return its exit code and its output.

    Raises FailedError if it takes longer than `seconds`.
    """
    with tempfile.TemporaryFile() as output:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=cwd,
            env=ENVIRONMENT | environment,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(seconds):
                await process.wait()
            why = ""
        except TimeoutError:
            why = f"`{shown(command)}` takes longer than {seconds:.0f} s"
        finally:
            await end_group(process)
        output.seek(0)
        text = output.read().decode(errors="replace")
    if why:
        raise FailedError(f"{why}; it has printed:\n{text}")
    return process.returncode or 0, text


def shown(command: Sequence[str | Path]) -> str:
    """Return a command as messages show it, without folders."""
    return " ".join(Path(part).name for part in command)


async def end_group(process: asyncio.subprocess.Process) -> None:
    """Kill a process and its children, if it still runs."""
    if process.returncode is None:
        os.killpg(process.pid, signal.SIGKILL)  # npm and others have children
        await process.wait()
