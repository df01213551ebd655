"""The guide on `check` agrees with its steps and its output."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE
from functools import partial
from pathlib import Path

from docs.test_readme import recording_of
from healthomics_gateway.check.steps import STEPS, TOTAL_SECONDS
from healthomics_gateway.sandbox import Sandbox, environment
from testkit.checking import BASE, run

PAGE = (Path(__file__).parents[2] / "docs/guide/check.md").read_text()


def test_guide_lists_the_steps_in_order() -> None:
    """Each step has a row with its title and its name in JSON."""
    rows = re.findall(r"(?m)^\| ([^|`]+) \| `(\w+)` \| ", PAGE)

    assert [(each.title, each.name) for each in STEPS] == rows
    assert f"all together have {TOTAL_SECONDS:g} s" in " ".join(PAGE.split())


async def test_guide_s_first_try_passes(tmp_path: Path) -> None:
    """The blocks of the two terminals work as they are written, but for the port."""
    serving, checking = re.findall(r"(?ms)^```sh\n([^`]*sandbox[^`]*)^```$", PAGE)
    serving = serving.replace("sandbox |", "sandbox --listen 127.0.0.1:0 |")
    environ = BASE | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    shell = partial(
        asyncio.create_subprocess_exec,
        *("/bin/sh", "-c"),
        env=environ,
        cwd=tmp_path,
        stdout=PIPE,
        start_new_session=True,
    )
    sandbox = await shell(serving)
    try:
        async with asyncio.timeout(60):
            assert sandbox.stdout
            while b"HOST_PREFIX" not in await sandbox.stdout.readline():
                pass
            checked = await shell(checking, stderr=DEVNULL)
            out, _ = await checked.communicate()
    finally:
        os.killpg(sandbox.pid, signal.SIGINT)
        await sandbox.communicate()

    assert (0, "No steps have failed.") == (
        checked.returncode,
        out.decode().splitlines()[-1],
    )


async def test_guide_shows_the_output() -> None:
    """The recording is what `check` prints against a sandbox."""
    ((command, *recorded),) = recording_of(PAGE)
    async with Sandbox() as sandbox:
        port = sandbox.url.rpartition(":")[2]
        _, out, _ = await asyncio.wait_for(
            run(BASE | environment(sandbox), *command.split()[1:]), 60
        )
    printed = re.sub(r"in \d+ ms", "in 21 ms", out.replace(port, "9900"))

    printed = printed.replace("2 set, all others have their defaults", "all defaults")
    assert recorded == printed.splitlines()
