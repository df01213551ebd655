"""README agrees with the code: its commands run, and its lists are complete."""

from __future__ import annotations

import asyncio
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from healthomics_gateway.sandbox import RUNS_HELP, Sandbox
from testkit.builders import aws_at, gateway

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BIN = Path(sys.executable).parent
COMMANDS = [
    line
    for block in re.findall(r"(?ms)^```sh\n(.*?)^```$", README)
    for line in block.splitlines()
]
CALLS = [
    each
    for each in COMMANDS
    if any(word in each for word in ("grpcurl", " get ", " watch "))
]
HASTE = 20.0  # how many times faster than usual the sandbox's runs change
FAILING = "9000404"  # the only id in README that is answered with an error
ADDRESS = "127.0.0.1:50051"
CUT = "  ..."  # stands for the lines that the recording omits


def recording_of(page: str) -> list[list[str]]:
    """Return each command of a page's recordings, with the lines that it prints."""
    return [
        each.splitlines()
        for block in re.findall(r"(?ms)^```console\n\$ (.*?)^```$", page)
        for each in block.split("\n$ ")
    ]


async def run(
    address: str, command: str, *, folder: Path | None = None
) -> tuple[int, str]:
    """Run a page's command against a gateway and return its exit code and output."""
    words = shlex.split(command.replace(ADDRESS, address))
    program = BIN / Path(words[0]).name
    assert program.exists()
    if program.name == "healthomics-gateway":
        words += ["--address", address]
    process = await asyncio.create_subprocess_exec(
        program,
        *words[1:],
        cwd=folder,
        env={"no_grpc_proxy": "127.0.0.1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    code = process.returncode
    assert code is not None
    return code, output.decode()


@pytest.mark.parametrize("command", CALLS)
async def test_readme_command_works(command: str) -> None:
    """Each command of README that calls the gateway runs as written."""
    async with (
        Sandbox(
            quota_per_second=0, monotonic=lambda: time.monotonic() * HASTE
        ) as sandbox,
        gateway(aws_at(sandbox.url), GATEWAY_WATCH__INTERVAL="100ms") as served,
    ):
        code, output = await run(str(served.address), command)

    if FAILING in command:
        assert code != 0
        assert "RUN_NOT_FOUND" in output
        assert "There is no run with this id." in output
    else:
        assert (0, True) == (code, "Run" in output or "RUN" in output)


def shape_of(line: str) -> str:
    """Return a line without ids, times and durations, which differ between runs."""
    line = re.sub(r"\b[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}\b", "ID", line)
    line = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME", line)
    return " ".join(re.sub(r"\b\d+(ms|s|m|h|d)\b", "DURATION", line).split())


def assert_printed(output: str, recorded: list[str]) -> None:
    """Check that a command printed the recorded lines, in their order."""
    printed = [shape_of(line) for line in output.splitlines()]
    shown = [shape_of(line) for line in recorded if line != CUT]
    assert shown == [line for line in printed if line in shown]
    assert CUT in recorded or len(shown) == len(printed)


@pytest.mark.parametrize("recorded", recording_of(README), ids=lambda lines: lines[0])
async def test_readme_recording_matches_the_output(recorded: list[str]) -> None:
    """A command of README's recording prints the recorded lines in their order."""
    command, *lines = recorded
    async with (
        Sandbox(
            quota_per_second=0, monotonic=lambda: time.monotonic() * HASTE / 2
        ) as sandbox,
        gateway(
            aws_at(sandbox.url),
            GATEWAY_QUOTA__TPS="1000",
            GATEWAY_WATCH__INTERVAL="50ms",
        ) as served,
    ):
        _, output = await run(str(served.address), command)

    assert_printed(output, lines)


async def test_readme_lists_describes_and_calls() -> None:
    """README shows how grpcurl lists, describes and calls, and a call that fails."""
    grpcurl = [each for each in CALLS if "grpcurl" in each]

    assert [True] * 4 == [
        any(word in each for each in grpcurl)
        for word in (" list", " describe ", "2000001", FAILING)
    ]


def test_readme_commands_are_tested() -> None:
    """Every make target in README exists, and every command is tested here."""
    targets = set(re.findall(r"(?m)^([a-z-]+):.*##", (ROOT / "Makefile").read_text()))
    named = set(re.findall(r"(?m)(?:`|^)make ([a-z-]+)", README))
    others = [each for each in COMMANDS if each not in CALLS]

    assert set() == named - targets
    assert ["make run", "make test"] == [e for e in others if e.startswith("make")]
    assert ["healthomics-gateway serve"] == [
        re.sub(r"^([A-Z_]+=\S+ )+", "", each)
        for each in others
        if not each.startswith("make")
    ]


def test_readme_lists_the_sandbox_runs() -> None:
    """README's table of the sandbox's runs equals the one of `sandbox --help`."""
    rows = re.findall(r"(?m)^\| ([0-9][-0-9]*|any other) \| (.*) \|$", README)

    assert [
        re.split(r"\s{2,}", line, maxsplit=1) for line in RUNS_HELP.splitlines()
    ] == [list(row) for row in rows]


def test_readme_links_have_targets() -> None:
    """Every file and folder that README links or lists exists."""
    links = re.findall(r"\]\(((?!http)[^)]+)\)", README)
    folders = re.findall(r"(?m)^\| `([a-z]+/)` \|", README)

    # Headings are tested in test_map.py.
    paths = [ROOT / each.partition("#")[0] for each in links + folders]
    assert [] == [str(path) for path in paths if not path.exists()]


def test_readme_is_short() -> None:
    """README has at most 150 lines."""
    assert len(README.splitlines()) <= 150


def test_help_of_make_lists_every_target_of_the_contract() -> None:
    """`make help` lists the targets that people and CI use."""
    listed = subprocess.run(
        ["make", "help"],  # noqa: S607  # make is found on the PATH, as usual
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    targets = "run test check generate format lint bench clients help descriptor"
    assert [] == [each for each in targets.split() if f"make {each} " not in listed]
