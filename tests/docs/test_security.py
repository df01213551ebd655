"""docs/guide/security.md agrees with the gateway and the policy."""

from __future__ import annotations

import asyncio
import json
import re
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from docs.test_readme import BIN, assert_printed, recording_of, run
from healthomics_gateway.settings.load import load
from testkit.builders import ANYWHERE
from testkit.svid import Authority

ROOT = Path(__file__).parents[2]
DOC = (ROOT / "docs" / "guide" / "security.md").read_text()
POLICY = ROOT / "docs" / "guide" / "iam-policy.json"
RECIPE = re.search(r"(?ms)^## A first rule.*?(?=^## )", DOC)[0]  # type: ignore[index]  # the page has it
EXAMPLES = re.findall(r"```toml\n(.*?)```", DOC.replace(RECIPE, ""), re.DOTALL)
FILES = re.compile(r'"(/[^"]+)"')


@pytest.mark.parametrize(
    "example", EXAMPLES, ids=["kubernetes", "sidecar", "spiffe", "socket", "oidc"]
)
def test_example_is_a_file_that_the_gateway_starts_with(
    tmp_path: Path, example: str
) -> None:
    """The gateway accepts each example of the page, once its files exist."""
    pair = trustme.CA().issue_cert("gateway.corp")
    contents = {
        "key": pair.private_key_pem.bytes(),
        "bundle": Authority().pem,
        "": pair.cert_chain_pems[0].bytes(),
    }
    for name in FILES.findall(example):
        file = tmp_path / Path(name).name
        kind = next(part for part in contents if part in file.name)
        file.write_bytes(contents[kind])
        example = example.replace(name, str(file))
    config = tmp_path / "gateway.toml"
    config.write_text(example)

    assert load(flags={}, environ={}, config_file=config).settings.callers


@asynccontextmanager
async def serving(command: str, *, folder: Path) -> AsyncIterator[str]:
    """Run a command that serves, on a free port, and return its address."""
    program, *arguments = command.split()
    process = await asyncio.create_subprocess_exec(
        BIN / program,
        *arguments,
        cwd=folder,
        env={"GATEWAY_LISTEN": ANYWHERE, "GATEWAY_ADMIN_LISTEN": ANYWHERE},
        stdout=DEVNULL,
        stderr=PIPE,
    )
    try:
        yield await _address_in(process)
    finally:
        process.kill()
        await process.wait()


async def _address_in(process: Process) -> str:
    """Return the address that a gateway logs, once it has read the keys of tokens."""
    assert process.stderr
    events = {}
    while "keys_read" not in events:
        event = json.loads(await process.stderr.readline())
        events[event["event"]] = event
    address: str = events["serving"]["address"]
    return address


async def test_first_rule_works_as_the_page_shows(tmp_path: Path) -> None:
    """The recipe's files and commands, copied, print what the page shows."""
    for language, name in (("python", "issue.py"), ("toml", "gateway.toml")):
        (block,) = re.findall(rf"(?s)```{language}\n(.*?)```", RECIPE)
        (tmp_path / name).write_text(block)
    (commands,) = re.findall(r"(?s)```sh\n(.*?)```", RECIPE)
    issue, serve = commands.splitlines()
    code, output = await run("", issue, folder=tmp_path)
    assert (0, "") == (code, output)

    async with serving(serve, folder=tmp_path) as address:
        for command, *lines in recording_of(RECIPE):
            _, output = await run(address, command, folder=tmp_path)
            assert_printed(output, lines)


def test_policies_allow_what_the_page_says_and_no_more() -> None:
    """The policy has the actions of the page's table, and the role's trust has both."""
    policy = json.loads(POLICY.read_text())
    (trust,) = (
        json.loads(block) for block in re.findall(r"```json\n(.*?)```", DOC, re.DOTALL)
    )
    actions = [each["Action"] for each in policy["Statement"]]
    table = re.search(r"\| feature \| AWS permissions.*?\n\n", DOC, re.DOTALL)
    assert table

    assert ["omics:GetRun", ["sts:AssumeRole", "sts:SetSourceIdentity"]] == actions
    assert actions[1] == trust["Statement"][0]["Action"]
    assert {"omics:GetRun", *actions[1]} == set(re.findall(r"`(\w+:\w+)`", table[0]))
    assert all(each["Resource"] != "*" for each in policy["Statement"])
