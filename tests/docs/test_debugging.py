"""The commands of the page on debugging run as written, and print what it shows."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from docs.test_readme import BIN, assert_printed, recording_of
from healthomics_gateway.sandbox import Sandbox
from testkit.builders import aws_at, gateway
from testkit.tools import NEWEST_TOOLS, require

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/guide/debugging.md").read_text()
SYSTEM = "/usr/bin:/bin"
PATHS = {
    "newest": f"{NEWEST_TOOLS}:{BIN}:{SYSTEM}",
    "oldest": f"{BIN}:{SYSTEM}",  # the oldest grpcurl is the one of .venv
}
ONLY_NEWEST = "-proto-out-dir"  # the oldest grpcurl doesn't have this option
CASES = [
    pytest.param(recorded, path, id=f"{name} {recorded[0]}")
    for recorded in recording_of(PAGE)
    for name, path in PATHS.items()
    if name == "newest"
    or (recorded[0].startswith("grpcurl ") and ONLY_NEWEST not in recorded[0])
]


@pytest.mark.parametrize(("recorded", "path"), CASES)
async def test_command_prints_what_the_page_shows(
    recorded: list[str], path: str, tmp_path: Path
) -> None:
    """Each command runs in a shell, in a folder that links to `generated/`."""
    command, *lines = recorded
    program = command.split()[0]
    is_newest = program == "grpcurl" and path == PATHS["newest"]
    require(program, path=NEWEST_TOOLS if is_newest else path)
    (tmp_path / "generated").symlink_to(ROOT / "generated")
    async with (
        Sandbox(quota_per_second=0) as sandbox,
        gateway(aws_at(sandbox.url), **settings_for(command)) as served,
    ):
        command = command.replace("127.0.0.1:50051", str(served.address))
        command = command.replace("127.0.0.1:9464", str(served.admin_address))
        process = await asyncio.create_subprocess_exec(
            *("bash", "-c", command),
            cwd=tmp_path,
            env={"PATH": path, "HOME": str(tmp_path)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()

    assert lines
    assert_printed(output.decode(), lines)


def settings_for(command: str) -> dict[str, str]:
    """Return the settings that the page asks for before a command."""
    if "Channelz" in command:
        return {"GATEWAY_OPEN_SERVICES": "Health,Reflection,Channelz"}
    return {}
