"""The guides' commands work in a shell as they are written."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from testkit.tools import require

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "guide" / "operations.md").read_text()
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs" / "guide").rglob("*.md"))]
LINES = [
    line
    for page in PAGES
    for block in re.findall(r"(?ms)^ *```(?:sh|console)\n(.*?)^ *```", page.read_text())
    for line in block.replace("\\\n", " ").splitlines()
]
CALLS = [
    {"event": "call", "identity": "anonymous", "peer": "10.0.0.1:5000", "code": "OK"},
    {
        "event": "call",
        "identity": "lims",
        "peer": "10.0.0.2:5000",
        "code": "RESOURCE_EXHAUSTED",
        "reason": "CALLER_RATE_LIMITED",
    },
]
OTHERS = ["Started healthomics-gateway.service", '{"event": "call"', "12", "[]", ""]


def commands() -> list[str]:
    """Return the commands that read the log."""
    return re.findall(r"(?ms)^```sh\n(jq .*?)^```", PAGE)


@pytest.mark.parametrize(
    ("command", "lines"),
    [
        pytest.param(0, ["1 lims", "1 10.0.0.1"], id="calls by caller"),
        pytest.param(1, ["1 CALLER_RATE_LIMITED\tlims\t10.0.0.2"], id="refused calls"),
    ],
)
def test_log_command_ignores_lines_of_others(
    command: int, lines: list[str], tmp_path: Path
) -> None:
    """It counts the calls before and after a line that isn't the gateway's."""
    require("jq")
    log = [*OTHERS, json.dumps(CALLS[0]), *OTHERS, json.dumps(CALLS[1])]
    (tmp_path / "gateway.log").write_text("\n".join(log))
    done = subprocess.run(
        ["/bin/sh", "-c", commands()[command]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )

    assert "" == done.stderr
    assert sorted(lines) == sorted(line.strip() for line in done.stdout.splitlines())


def test_log_commands_are_all_tested() -> None:
    """The page has no other command that reads the log."""
    assert 2 == len(commands()) == len(re.findall(r"^jq ", PAGE, re.MULTILINE))


def test_addresses_with_a_query_are_quoted() -> None:
    """Shells take a bare question mark for a pattern, and zsh refuses it."""
    found = [line for line in LINES if re.search(r"curl .*://\S*\?", line)]

    assert found
    assert [] == [line for line in found if not re.search(r"'http\S*\?\S*'", line)]


def test_installations_have_the_tested_versions() -> None:
    """What is installed from the clone has the versions of constraints.txt."""
    found = [
        line for line in LINES if re.search(r"pip install .*(\./|'\.|build/)", line)
    ]

    assert 2 <= len(found)
    assert [] == [line for line in found if "-c constraints.txt" not in line]
