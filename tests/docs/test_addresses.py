"""The commands of the guides use the gateway's default addresses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs.test_readme import recording_of
from healthomics_gateway.settings.schema import Settings

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs" / "guide").rglob("*.md"))]
DEFAULTS = {str(Settings().listen), str(Settings().admin_listen)}
# Addresses of other programs, and where they are set.
OTHERS = {"127.0.0.1:8080": ROOT / "clients" / "web" / "proxy" / "main.go"}
NOBODY = "127.0.0.1:1"  # for a command that shows what happens without a server
LOCAL = re.compile(r"\b(?:127\.0\.0\.1|localhost):\d+\b")
# What sets an address in an example: a variable, an option of `serve`, or a port that
# docker publishes.
SET = re.compile(r"\b[A-Z_]+=\S+|-p \S+|--(?:admin-)?listen \S+")


def commands_of(page: str) -> list[str]:
    """Return the commands of a page: in its blocks, in its recordings, in its text."""
    prose = re.sub(r"(?ms)^ *```.*?^ *```$", "", page)
    return [
        *(lines[0] for lines in recording_of(page)),
        *re.findall(r"(?ms)^ *```sh\n(.*?)^ *```$", page),
        *re.findall("`([^`]+)`", prose),
    ]


def other_addresses(page: str) -> set[str]:
    """Return the addresses in a page's commands that aren't the gateway's defaults."""
    text = "\n".join(commands_of(page))
    set_by_example = set(LOCAL.findall(" ".join(SET.findall(text))))
    return set(LOCAL.findall(text)) - DEFAULTS - set_by_example


@pytest.mark.parametrize(
    "page", [pytest.param(each, id=str(each.relative_to(ROOT))) for each in PAGES]
)
def test_commands_use_the_default_addresses(page: Path) -> None:
    """Each address is a default, is set by its example, or is of another program."""
    assert other_addresses(page.read_text()) <= {NOBODY, *OTHERS}


def test_other_programs_have_the_addresses_of_the_commands() -> None:
    """The program of each other address names it."""
    assert [] == [
        address for address, file in OTHERS.items() if address not in file.read_text()
    ]


def test_address_that_nobody_sets_is_found() -> None:
    """The test above can fail."""
    page = "```sh\ncurl http://127.0.0.1:50052/metrics\n```\n"

    assert {"127.0.0.1:50052"} == other_addresses(page)
    assert set() == other_addresses(page.replace("curl", "A=127.0.0.1:50052 curl"))
