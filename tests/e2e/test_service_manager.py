"""A gateway that systemd has started reports its state."""

from __future__ import annotations

import asyncio
import signal
import socket
from pathlib import Path

import pytest

from healthomics_gateway.sandbox import Sandbox
from testkit.gateway_process import STOP_SECONDS, serving

MOST_BYTES = 4096
DRAIN_SECONDS = 5.0
KIND = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_states_are_reported_to_systemd(workers: str, tmp_path: Path) -> None:
    """The start, the watchdog, a reload and the drain are reported as they happen."""
    loop = asyncio.get_running_loop()
    (tmp_path / "gateway.toml").write_text("")
    with socket.socket(socket.AF_UNIX, KIND) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        async with (
            Sandbox() as sandbox,
            serving(
                sandbox.url,
                arguments=("--config", str(tmp_path / "gateway.toml")),
                NOTIFY_SOCKET=str(tmp_path / "notify"),
                WATCHDOG_USEC="40000000",
                GATEWAY_WORKERS=workers,
                GATEWAY_DRAIN_TIME=f"{DRAIN_SECONDS:g}s",
            ) as served,
        ):
            started = [await loop.sock_recv(systemd, MOST_BYTES) for _ in range(2)]
            served.process.send_signal(signal.SIGHUP)
            reload = [await loop.sock_recv(systemd, MOST_BYTES) for _ in range(2)]
            served.terminate()
            ending = await loop.sock_recv(systemd, MOST_BYTES)
            code = await served.ended(DRAIN_SECONDS + STOP_SECONDS)

    assert [b"READY=1", b"WATCHDOG=1"] == started
    assert [b"RELOADING=1", b"READY=1"] == [each.split(b"\n")[0] for each in reload]
    assert b"STOPPING=1" == ending
    assert 0 == code
