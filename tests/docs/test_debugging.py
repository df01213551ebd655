"""The commands of the page on debugging run as written, and print what it shows."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from docs.test_readme import BIN, assert_printed, recording_of
from healthomics_gateway.sandbox import Sandbox
from testkit.builders import aws_at, gateway

ROOT = Path(__file__).parents[2]
PATH = f"{BIN}:/usr/bin:/bin"
PAGE = (ROOT / "docs/guide/debugging.md").read_text()


@pytest.mark.parametrize("recorded", recording_of(PAGE), ids=lambda lines: lines[0])
async def test_command_prints_what_the_page_shows(recorded: list[str]) -> None:
    """Each command runs in a shell, from the folder of the clone."""
    command, *lines = recorded
    program = command.split()[0]
    if not shutil.which(program, path=PATH):
        pytest.skip(f"{program} isn't installed")
    async with (
        Sandbox(quota_per_second=0) as sandbox,
        gateway(aws_at(sandbox.url)) as served,
    ):
        command = command.replace("127.0.0.1:50051", str(served.address))
        command = command.replace("127.0.0.1:9464", str(served.admin_address))
        process = await asyncio.create_subprocess_exec(
            *("bash", "-c", command),
            cwd=ROOT,
            env={"PATH": PATH, "HOME": str(ROOT / "build")},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()

    assert lines
    assert_printed(output.decode(), lines)
