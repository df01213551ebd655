"""The guide on `check` agrees with its steps and its output."""

from __future__ import annotations

import asyncio
import re
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
